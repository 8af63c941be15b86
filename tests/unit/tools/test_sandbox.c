/* What the sandbox lets out, what it holds back, and how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "tools/sandbox.h"

static const sandbox_limits limits = {
    .wall_ms = 20000, .cpu_seconds = 20, .memory_bytes = 1u << 30, .output_bytes = 1 << 20};

/* Runs a shell line; its output, or the error. */
static bool run(const char *line, str input, sandbox_limits l, buf *out, error *err) {
    const char *const argv[] = {"sh", "-c", line, NULL};
    sandbox_command c = {.argv = argv, .input = input, .limits = l};
    sandbox *s = sandbox_open(&c, err);
    if (!s) return false;
    char bytes[4096];
    ptrdiff_t n;
    while ((n = sandbox_read(s, bytes, sizeof bytes, err)) > 0) buf_append(out, bytes, (size_t)n);
    bool ok = n == 0 && sandbox_finish(s, err);
    sandbox_close(s);
    return ok;
}

static void need_sandbox(void) {
    error err = {0};
    buf out = {0};
    bool ok = run("true", (str){0}, limits, &out, &err);
    buf_deinit(&out);
    if (ok) return;
    assert_int_equal(err.code, ERR_NOT_IMPLEMENTED); /* it says so, and nothing ran */
    print_message("# %s\n", err.message);
    skip();
}

static void expect(const char *line, const char *want) {
    error err = {0};
    buf out = {0};
    if (!run(line, STR("input\n"), limits, &out, &err)) fail_msg("%s: %s", line, err.message);
    assert_string_equal(out.ptr ? out.ptr : "", want);
    buf_deinit(&out);
}

static void test_computes(void **state) {
    (void)state;
    need_sandbox();
    expect("cat; echo $((6 * 7)); id -u; pwd", "input\n42\n65534\n/tmp\n");
    expect("echo x > /tmp/file && cat /tmp/file", "x\n");
}

static void test_holds_back(void **state) {
    (void)state;
    need_sandbox();
    char mine[] = "/tmp/oriel-sandbox-XXXXXX", line[200];
    int fd = mkstemp(mine);
    assert_true(fd >= 0);
    close(fd);
    snprintf(line, sizeof line, "test -e %s || echo hidden", mine);
    expect(line, "hidden\n");
    unlink(mine);
    expect(
        "test -e /etc/passwd || echo none; test -e /home || echo none; test -e /root || echo none",
        "none\nnone\nnone\n");
    expect("(echo x > /usr/oriel-was-here) 2>/dev/null || echo refused", "refused\n");
    expect("ls /sys/class/net 2>/dev/null | wc -l; wc -l < /proc/net/route", "0\n1\n");
    expect("unshare -U true 2>/dev/null || echo refused", "refused\n");
    expect("mount -t tmpfs none /tmp 2>/dev/null || echo refused", "refused\n");
    expect("ls /proc | grep -c '^[0-9]'  | { read n; test $n -lt 8 && echo few; }", "few\n");
    expect("env | grep -c -v -E '^(PATH|LANG|HOME|PWD|OLDPWD|SHLVL|_)='  || true", "0\n");
    expect("ls /proc/self/fd | wc -l", "4\n"); /* 0, 1, 2 and the folder being read */
}

static void test_limits(void **state) {
    (void)state;
    need_sandbox();
    error err = {0};
    buf out = {0};
    sandbox_limits l = limits;
    l.wall_ms = 300;
    int64_t start = clock_ns();
    assert_false(run("sleep 30", (str){0}, l, &out, &err));
    assert_int_equal(err.code, ERR_DEADLINE);
    assert_true(clock_ns() - start < 10ll * 1000000000);
    err = (error){0};
    l = limits;
    l.output_bytes = 100000;
    assert_false(run("yes", (str){0}, l, &out, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_true(out.len <= 100000);
    err = (error){0};
    l = limits;
    l.memory_bytes = 64 << 20;
    assert_false(run("head -c 200000000 /dev/zero | tail -c 150000000 > /dev/null", (str){0}, l,
                     &out, &err));
    buf_deinit(&out);
}

static void test_complaints(void **state) {
    (void)state;
    need_sandbox();
    error err = {0};
    buf out = {0};
    assert_false(
        run("echo first >&2; echo no such voice >&2; exit 3", (str){0}, limits, &out, &err));
    assert_non_null(strstr(err.message, "no such voice"));
    assert_null(strstr(err.message, "first"));
    const char *const argv[] = {"oriel-no-such-program", NULL};
    sandbox_command c = {.argv = argv, .limits = limits};
    err = (error){0};
    sandbox *s = sandbox_open(&c, &err);
    char byte;
    assert_non_null(s);
    assert_int_equal(sandbox_read(s, &byte, 1, &err), 0);
    assert_false(sandbox_finish(s, &err));
    assert_int_equal(err.code, ERR_NOT_IMPLEMENTED);
    assert_non_null(strstr(err.message, "oriel-no-such-program"));
    sandbox_close(s);
    buf_deinit(&out);
}

static void test_kill(void **state) {
    (void)state;
    need_sandbox();
    error err = {0};
    const char *const argv[] = {"sleep", "60", NULL};
    sandbox_command c = {.argv = argv, .limits = limits};
    sandbox *s = sandbox_open(&c, &err);
    assert_non_null(s);
    sandbox_kill(s);
    char byte;
    assert_int_equal(sandbox_read(s, &byte, 1, &err), -1);
    assert_int_equal(err.code, ERR_CANCELLED);
    int64_t start = clock_ns();
    sandbox_close(s);
    assert_true(clock_ns() - start < 5ll * 1000000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_computes), cmocka_unit_test(test_holds_back),
        cmocka_unit_test(test_limits),   cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
