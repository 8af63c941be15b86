#include "tools/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    POLL_MS = 100,
    COMPLAINT_BYTES = 400,
    FILTER_FD = 3,
    MAX_PROCESSES = 256,
    EXIT_NOT_FOUND = 127
};

struct sandbox {
    pid_t pid; /* of bubblewrap; 0 once it was waited for */
    int out_fd, complaint_fd;
    int status;
    int64_t deadline_ns;
    uint64_t left_bytes, output_bytes;
    atomic_bool killed;
    char name[64]; /* of the command */
};

/* ── the filter ── */

/* Everything a program that computes needs stays; what only administrators, debuggers and exploits
 * ask for is refused. */
static const char *const refused_calls[] = {
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
    "vmsplice",
};

/* The compiled filter in a file without a name, for bubblewrap to read. −1 on failure. */
static int make_filter(void) {
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int fd = f ? memfd_create("oriel-filter", MFD_CLOEXEC) : -1;
    bool ok = fd >= 0;
    for (size_t i = 0; ok && i < sizeof refused_calls / sizeof refused_calls[0]; i++) {
        int nr = seccomp_syscall_resolve_name(refused_calls[i]);
        if (nr < 0) continue; /* not on this machine */
        ok = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), nr, 0) == 0;
    }
    /* New user namespaces through clone. clone3 hides its flags behind a pointer: libraries fall back
     * to clone when it is said not to exist. TIOCSTI types into the terminal. */
    ok = ok &&
         seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                          SCMP_A0(SCMP_CMP_MASKED_EQ, 0x10000000, 0x10000000)) == 0 &&
         seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0 &&
         seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                          SCMP_A1(SCMP_CMP_MASKED_EQ, 0xFFFFFFFFu, 0x5412)) == 0 &&
         seccomp_export_bpf(f, fd) == 0 && lseek(fd, 0, SEEK_SET) == 0;
    if (f) seccomp_release(f);
    if (!ok && fd >= 0) close(fd);
    return ok ? fd : -1;
}

/* ── the command line ── */

typedef struct args {
    const char *v[SANDBOX_MAX_ARGS + SANDBOX_MAX_HIDDEN * 2 + 96];
    int n;
    char numbers[5][32];
    char *hidden[SANDBOX_MAX_HIDDEN]; /* owned */
} args;

#define ADD(a, ...)                                                                               \
    do {                                                                                          \
        const char *const more[] = {__VA_ARGS__};                                                 \
        for (size_t k_ = 0; k_ < sizeof more / sizeof more[0]; k_++) (a)->v[(a)->n++] = more[k_]; \
    } while (0)

static const char *number(args *a, int i, const char *option, uint64_t v) {
    snprintf(a->numbers[i], sizeof a->numbers[i], "%s%llu", option, (unsigned long long)v);
    return a->numbers[i];
}

static bool make_args(args *a, const sandbox_command *c, error *err) {
    ADD(a, "bwrap", "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534",
        "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH",
        "/usr/local/bin:/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8", "--setenv", "HOME", "/tmp",
        "--hostname", "sandbox");
    if (c->sees_files)
        ADD(a, "--ro-bind", "/", "/");
    else
        ADD(a, "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib",
            "/lib", "--symlink", "usr/lib64", "/lib64", "--ro-bind-try", "/etc/alternatives",
            "/etc/alternatives", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache");
    ADD(a, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp");
    for (int i = 0; c->sees_files && c->hidden && c->hidden[i]; i++) {
        if (i == SANDBOX_MAX_HIDDEN)
            return error_set(err, ERR_INTERNAL, NULL, "More than %d folders are to be hidden.",
                             SANDBOX_MAX_HIDDEN);
        a->hidden[i] = realpath(c->hidden[i], NULL);
        if (a->hidden[i]) ADD(a, "--tmpfs", a->hidden[i]); /* else it is not there */
    }
    ADD(a, "--chdir", "/tmp", "--seccomp", "3", "--", "prlimit",
        number(a, 0, "--as=", c->limits.memory_bytes),
        number(a, 1, "--cpu=", (uint64_t)c->limits.cpu_seconds),
        number(a, 2, "--nproc=", MAX_PROCESSES), number(a, 3, "--fsize=", c->limits.output_bytes),
        "--core=0", "--");
    for (int i = 0; c->argv[i]; i++) {
        if (i == SANDBOX_MAX_ARGS)
            return error_set(err, ERR_INVALID_VALUE, NULL, "A command has at most %d words.",
                             SANDBOX_MAX_ARGS);
        a->v[a->n++] = c->argv[i];
    }
    a->v[a->n] = NULL;
    return true;
}

/* ── running ── */

/* What the child reads as standard input: a file without a name, so that nobody has to feed it. */
static int make_input(str input) {
    int fd = memfd_create("oriel-input", MFD_CLOEXEC);
    if (fd < 0) return -1;
    for (size_t at = 0; at < input.len;) {
        ssize_t n = write(fd, input.ptr + at, input.len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        at += (size_t)n;
    }
    if (lseek(fd, 0, SEEK_SET) == 0) return fd;
    close(fd);
    return -1;
}

static bool spawn(sandbox *s, const args *a, int in, int out, int filter, error *err) {
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&at);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &all);
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int rc = posix_spawn_file_actions_adddup2(&fa, in, 0);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&fa, out, 1);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&fa, s->complaint_fd, 2);
    if (!rc) rc = posix_spawn_file_actions_adddup2(&fa, filter, FILTER_FD);
    if (!rc) rc = posix_spawn_file_actions_addclosefrom_np(&fa, FILTER_FD + 1);
    char *const env[] = {NULL};
    pid_t pid = 0;
    if (!rc) rc = posix_spawn(&pid, "/usr/bin/bwrap", &fa, &at, (char *const *)a->v, env);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&at);
    if (rc == 0) {
        s->pid = pid;
        return true;
    }
    if (rc == ENOENT)
        return error_set(
            err, ERR_NOT_IMPLEMENTED, NULL,
            "Commands run only inside bubblewrap, which is not installed here: install the package bubblewrap.");
    return error_set(err, ERR_IO, NULL, "The sandbox cannot start: %s.", strerror(rc));
}

sandbox *sandbox_open(const sandbox_command *c, error *err) {
    args *a = calloc(1, sizeof *a);
    sandbox *s = calloc(1, sizeof *s);
    int in = -1, filter = -1, pipe_fds[2] = {-1, -1};
    bool ok = false;
    if (!a || !s) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a command.");
        goto out;
    }
    s->out_fd = s->complaint_fd = -1;
    snprintf(s->name, sizeof s->name, "%s", c->argv[0]);
    s->left_bytes = s->output_bytes = c->limits.output_bytes;
    s->deadline_ns = clock_ns() + c->limits.wall_ms * 1000000;
    if (!make_args(a, c, err)) goto out;
    in = make_input(c->input);
    filter = make_filter();
    s->complaint_fd = memfd_create("oriel-complaint", MFD_CLOEXEC);
    if (in < 0 || filter < 0 || s->complaint_fd < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0) {
        error_set(err, ERR_IO, NULL, "The sandbox cannot be prepared: %s.", strerror(errno));
        goto out;
    }
    s->out_fd = pipe_fds[0];
    ok = spawn(s, a, in, pipe_fds[1], filter, err);
out:
    if (in >= 0) close(in);
    if (filter >= 0) close(filter);
    if (pipe_fds[1] >= 0) close(pipe_fds[1]);
    for (int i = 0; a && i < SANDBOX_MAX_HIDDEN; i++) free(a->hidden[i]);
    free(a);
    if (ok) return s;
    sandbox_close(s);
    return NULL;
}

ptrdiff_t sandbox_read(sandbox *s, void *out, size_t size, error *err) {
    for (;;) {
        if (atomic_load(&s->killed)) {
            error_set(err, ERR_CANCELLED, NULL, "The command was cancelled.");
            return -1;
        }
        if (clock_ns() > s->deadline_ns) {
            sandbox_kill(s);
            error_set(err, ERR_DEADLINE, NULL, "The command took too long and was ended.");
            return -1;
        }
        struct pollfd p = {.fd = s->out_fd, .events = POLLIN};
        int ready = poll(&p, 1, POLL_MS);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        ssize_t n = ready < 0 ? -1 : read(s->out_fd, out, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            error_set(err, ERR_IO, NULL, "The command's output cannot be read: %s.",
                      strerror(errno));
            return -1;
        }
        if ((uint64_t)n > s->left_bytes) {
            sandbox_kill(s);
            error_set(err, ERR_IO, NULL, "The command wrote more than %llu bytes and was ended.",
                      (unsigned long long)s->output_bytes);
            return -1;
        }
        s->left_bytes -= (uint64_t)n;
        return n;
    }
}

static void reap(sandbox *s) {
    if (!s->pid) return;
    while (waitpid(s->pid, &s->status, 0) < 0 && errno == EINTR) {
    }
    s->pid = 0;
}

/* The last line of what it wrote to standard error. */
static str find_complaint(const sandbox *s, char text[COMPLAINT_BYTES]) {
    off_t end = lseek(s->complaint_fd, 0, SEEK_END);
    off_t from = end > COMPLAINT_BYTES ? end - COMPLAINT_BYTES : 0;
    ssize_t n = pread(s->complaint_fd, text, COMPLAINT_BYTES, from);
    str line = str_trim(str_make(text, n > 0 ? (size_t)n : 0));
    for (size_t i = line.len; i-- > 0;)
        if (line.ptr[i] == '\n') return str_trim(str_make(line.ptr + i + 1, line.len - i - 1));
    return line;
}

bool sandbox_finish(sandbox *s, error *err) {
    reap(s);
    int status = WIFEXITED(s->status) ? WEXITSTATUS(s->status) : -1;
    if (status == 0) return true;
    char text[COMPLAINT_BYTES];
    str line = find_complaint(s, text);
    if (str_starts(line, STR("bwrap: ")))
        return error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                         "Commands run only inside a sandbox, and it is not possible here (%.*s).",
                         (int)line.len, line.ptr);
    if (status == EXIT_NOT_FOUND)
        return error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                         "This needs the program '%s', which is not installed.", s->name);
    if (line.len)
        return error_set(err, ERR_IO, NULL, "The program '%s' failed: %.*s", s->name, (int)line.len,
                         line.ptr);
    return error_set(err, ERR_IO, NULL, "The program '%s' failed with status %d.", s->name, status);
}

void sandbox_kill(sandbox *s) {
    atomic_store(&s->killed, true);
}

void sandbox_close(sandbox *s) {
    if (!s) return;
    if (s->pid) {
        kill(s->pid, SIGKILL); /* what runs inside goes with it (--die-with-parent) */
        reap(s);
    }
    if (s->out_fd >= 0) close(s->out_fd);
    if (s->complaint_fd >= 0) close(s->complaint_fd);
    free(s);
}
