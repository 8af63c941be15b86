#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

bool term_is_rich(FILE *f) {
    const char *term = getenv("TERM");
    return isatty(fileno(f)) && !getenv("NO_COLOR") && term && strcmp(term, "dumb") != 0;
}

void term_dim(FILE *f, bool on) {
    if (term_is_rich(f)) fputs(on ? "\x1b[2m" : "\x1b[0m", f);
}

term_size term_bytes(uint64_t bytes) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1000 && u < 4) v /= 1000, u++;
    term_size s;
    snprintf(s.text, sizeof s.text, u && v < 100 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return s;
}

static bool progress_shown;

bool term_progress(void *ctx, uint64_t done, uint64_t total) {
    static int64_t last;
    if (term_interrupts()) return false;
    if (!isatty(STDERR_FILENO)) return true;
    int64_t now = clock_ns();
    if (done < total && now - last < 100000000) return true;
    last = now;
    int filled = total ? (int)(done * 30 / total) : 30;
    char bar[31];
    for (int i = 0; i < 30; i++) bar[i] = i < filled ? '#' : '.';
    bar[30] = 0;
    fprintf(stderr, "\r%s [%s] %3d%% of %s ", ctx ? (const char *)ctx : "loading", bar,
            total ? (int)(done * 100 / total) : 100, term_bytes(total).text);
    progress_shown = true;
    return true;
}

bool term_not_interrupted(void *ctx, uint64_t done, uint64_t total) {
    (void)ctx;
    (void)done;
    (void)total;
    return !term_interrupts();
}

void term_progress_end(void) {
    if (progress_shown) fputs("\r\x1b[K", stderr);
    progress_shown = false;
}

static volatile sig_atomic_t interrupts;
static void on_interrupt(int sig) {
    (void)sig;
    interrupts = interrupts + 1;
    if (interrupts >= 3) _exit(130); /* whoever presses three times means it */
}

void term_catch_interrupt(void) {
    struct sigaction a = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
}
/* Pages of a file that was cut short are gone, and whoever touches one gets SIGBUS: one sentence for
 * that instead of a crash. Anything else that raises it stays a crash. */
static void on_lost_page(int sig, siginfo_t *info, void *context) {
    static const char text[] =
        "oriel: A file in use (most likely the model) was cut short or cannot be read any more, so "
        "the program ends. Replace a model by renaming a new file over it; with --load read or "
        "direct a loaded model does not depend on its file.\n";
    (void)context;
    if (info->si_code != BUS_ADRERR) {
        signal(sig, SIG_DFL);
        return; /* to the same instruction, and now it ends as it always did */
    }
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(1);
    _exit(1);
}

void term_catch_lost_pages(void) {
    struct sigaction a = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &a, NULL);
}

int term_interrupts(void) {
    return interrupts;
}
void term_reset_interrupts(void) {
    interrupts = 0;
}

bool cli_read_file(const char *path, buf *out, error *err) {
    bool std = strcmp(path, "-") == 0;
    int fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && buf_read_fd(out, fd);
    if (!ok)
        error_set(err, ERR_USAGE, "file", "%s cannot be read: %s.", std ? "Standard input" : path,
                  strerror(errno));
    if (fd >= 0 && !std) close(fd);
    return ok;
}

bool cli_write(buf *text, error *err) {
    buf_append_char(text, '\n');
    bool ok = !text->failed;
    if (ok)
        fwrite(text->ptr, 1, text->len, stdout);
    else
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the output.");
    buf_deinit(text);
    return ok;
}
