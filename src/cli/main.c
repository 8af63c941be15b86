#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name;
    cli_command *run;
    const char *help;
} commands[] = {
    {"chat", cmd_chat, "talk with a model"},
    {"generate", cmd_generate, "one prompt, one answer"},
    {"serve", cmd_serve, "the OpenAI API on this machine"},
    {"score", cmd_score, "log-probabilities and perplexity of a text"},
    {"tokenize", cmd_tokenize, "text to token ids and back"},
    {"inspect", cmd_inspect, "what is in a model file"},
    {"plan", cmd_plan, "will a model fit, and in which window"},
    {"bench", cmd_bench, "speed, and whether the window keeps it flat"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out) {
    fputs("oriel " ORIEL_VERSION
          ": language models on your own machine, in a window of fixed size.\n\n"
          "usage: oriel COMMAND [options]\n\n",
          out);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fputs("\noriel COMMAND --help lists a command's options. Without --model every command uses\n"
          "the small built-in model. Try:  oriel chat\n",
          out);
}

/* A full disk or a closed pipe shows here at the latest, for every command. */
static int finish(int status) {
    error err = {0};
    if ((fflush(stdout) == 0 && !ferror(stdout)) || status != 0) return status;
    error_set(&err, ERR_IO, NULL, "The answer could not be written to standard output.");
    return cli_fail(&err);
}

int main(int argc, char **argv) {
    static char help_flag[] = "--help";
    term_catch_lost_pages();
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (strcmp(argv[1], "help") == 0 && argc == 2)) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "help") == 0) { /* oriel help bench speed: oriel bench speed --help */
        memmove(argv + 1, argv + 2, (size_t)(argc - 2) * sizeof *argv);
        argv[argc - 1] = help_flag;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        puts("oriel " ORIEL_VERSION);
        return 0;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return finish(commands[i].run(argc, argv));
    if (argv[1][0] == '-') {
        fprintf(stderr, "oriel: the command comes first, as in: oriel chat %.60s\n", argv[1]);
        return 2;
    }
    const char *meant = NULL;
    size_t fewest = SIZE_MAX;
    for (int i = 0; i < N_COMMANDS; i++)
        if (str_is_nearer(str_from(argv[1]), str_from(commands[i].name), &fewest))
            meant = commands[i].name;
    fprintf(stderr, "oriel: there is no command '%.60s'. ", argv[1]);
    if (meant)
        fprintf(stderr, "Did you mean oriel %s?\n", meant);
    else
        fputs("oriel --help lists the commands.\n", stderr);
    return 2;
}
