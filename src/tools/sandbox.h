/* Runs a command where it can do no harm. bubblewrap gives it a world of its
 * own: new namespaces without a network, /usr read-only (or, for an operator's
 * own command, the whole file system read-only except what is hidden), a private
 * /tmp, nobody's user id, no capabilities. A seccomp filter refuses the system
 * calls that reach for the kernel's depths (mount, ptrace, bpf, keyrings, new
 * namespaces, io_uring, …), and limits bound time, memory, processes and output.
 *
 * Where bubblewrap is missing or the kernel forbids its namespaces the command is
 * refused (ERR_NOT_IMPLEMENTED with what to install); nothing runs unprotected.
 *
 * Threads: a sandbox belongs to one thread; sandbox_kill may be called from any.
 */
#ifndef TOOLS_SANDBOX_H
#define TOOLS_SANDBOX_H

#include "base/error.h"
#include "base/str.h"

enum { SANDBOX_MAX_ARGS = 64, SANDBOX_MAX_HIDDEN = 16 };

typedef struct sandbox_limits {
    int64_t wall_ms;       /* killed after; > 0 */
    int64_t cpu_seconds;   /* > 0 */
    uint64_t memory_bytes; /* address space of each process */
    uint64_t output_bytes; /* of standard output */
} sandbox_limits;

typedef struct sandbox_command {
    const char *const *argv;   /* NULL-terminated, at most SANDBOX_MAX_ARGS; [0] is found in PATH */
    str input;                 /* its standard input; copied */
    bool sees_files;           /* the whole file system, read-only; else /usr alone */
    const char *const *hidden; /* with sees_files: folders shown empty; NULL-terminated or NULL */
    sandbox_limits limits;
} sandbox_command;

typedef struct sandbox sandbox;

/* Starts it. NULL with a sentence. */
sandbox *sandbox_open(const sandbox_command *c, error *err);
/* The next bytes of its standard output: waits for them. 0 at the end, −1 with the error set when it
 * was killed (ERR_DEADLINE, ERR_CANCELLED), wrote too much or could not be read. */
ptrdiff_t sandbox_read(sandbox *s, void *out, size_t size, error *err);
/* After sandbox_read gave 0: true when it ended with status 0. Else ERR_NOT_IMPLEMENTED when the
 * command is not installed or the sandbox is not possible here, or ERR_IO with the last line it
 * wrote to standard error. */
bool sandbox_finish(sandbox *s, error *err);
/* Ends it soon; sandbox_read then fails with ERR_CANCELLED. */
void sandbox_kill(sandbox *s);
/* Kills it if it still runs. NULL is allowed. */
void sandbox_close(sandbox *s);

#endif
