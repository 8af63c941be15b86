#include <stdio.h>

int main(void) {
    puts("oriel " ORIEL_VERSION);
    return 0;
}
