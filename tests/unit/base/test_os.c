/* What the system says about itself has to be plausible. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/os.h"

static void test_random(void **state) {
    (void)state;
    unsigned char a[1000] = {0}, b[1000] = {0};
    os_random(a, sizeof a);
    os_random(b, sizeof b);
    assert_true(memcmp(a, b, sizeof a) != 0);
    int bits = 0;
    for (size_t i = 0; i < sizeof a; i++) bits += __builtin_popcount(a[i]);
    assert_in_range(bits, 3500, 4500); /* 4000 ± 11 standard deviations */
    os_random(a, 0);
}

static void test_machine(void **state) {
    (void)state;
    assert_in_range(os_n_cpus(), 1, sysconf(_SC_NPROCESSORS_CONF));
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_in_range(os_free_memory(), 1 << 20, total);
}

static void put(const char *root, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Every group above ours limits; cache in a group is not used memory; what has no limit has none. */
static void test_groups(void **state) {
    (void)state;
    char root[] = "/tmp/oriel-groups-XXXXXX", remove[64];
    assert_non_null(mkdtemp(root));
    assert_int_equal(os_free_memory_at(root), 0);
    put(root, "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n");
    assert_int_equal(os_free_memory_at(root), 8000 << 10);
    put(root, "proc/self/cgroup", "4:memory:/a/b/c\n2:cpu:/a\n0::/x/y\n");
    assert_int_equal(os_free_memory_at(root), 8000 << 10);
    put(root, "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "5000000\n");
    put(root, "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "3000000\n");
    assert_int_equal(os_free_memory_at(root), 2000000);
    put(root, "sys/fs/cgroup/memory/a/b/memory.stat",
        "cache 7\ntotal_active_file 400000\ntotal_inactive_file 600000\n");
    assert_int_equal(os_free_memory_at(root), 3000000);
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "3000000\n");
    put(root, "sys/fs/cgroup/x/y/memory.max", "max\n");
    put(root, "sys/fs/cgroup/x/y/memory.current", "3000000\n");
    assert_int_equal(os_free_memory_at(root), 3000000);
    put(root, "sys/fs/cgroup/x/memory.max", "1000000\n");
    put(root, "sys/fs/cgroup/x/memory.current", "900000\n");
    assert_int_equal(os_free_memory_at(root), 100000);
    put(root, "sys/fs/cgroup/x/memory.current", "1900000\n"); /* over its limit already */
    assert_int_equal(os_free_memory_at(root), 0);
    snprintf(remove, sizeof remove, "rm -r %s", root);
    assert_int_equal(system(remove), 0);
}

static void test_memory(void **state) {
    (void)state;
    enum { N = 64 << 20 };
    os_memory before = os_get_memory();
    assert_true(before.rss > 0 && before.rss_peak >= before.rss);
    unsigned char *p = os_map(N);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    assert_true(p[0] == 0 && p[N - 1] == 0);
    memset(p, 1, N);
    os_memory during = os_get_memory();
    assert_true(during.rss >= before.rss + N / 2);
    assert_true(during.rss_anon >= before.rss_anon + N / 2);
    os_unmap(p, N);
    os_memory after = os_get_memory();
    assert_true(after.rss < during.rss - N / 2 && after.rss_peak >= during.rss - (4 << 20));
    p = os_map(N);
    before = os_get_memory();
    os_touch(p + 5, N - 5);
    during = os_get_memory();
    assert_true(during.rss_anon >= before.rss_anon + N - (1 << 20));
    assert_true(p[0] == 0 && p[N - 1] == 0);
    os_touch(NULL, 1);
    os_touch(p, 0);
    assert_true(os_lock_limit() >= 4096);
    assert_true(os_lock(p, 4096) && os_lock(p, 0) && os_lock(NULL, 1));
    os_unmap(p, N);
    os_unmap(NULL, 5);
    p = os_map(0);
    assert_non_null(p);
    os_unmap(p, 0);
#ifdef NDEBUG /* the sanitizers make this a warning */
    assert_null(os_map(SIZE_MAX / 2));
#endif
}

static void test_clock(void **state) {
    (void)state;
    int64_t a = clock_ns(), cpu = clock_cpu_ns();
    volatile uint64_t x = 0;
    while (clock_ns() - a < 2000000) x += 1;
    assert_true(clock_cpu_ns() > cpu);
    assert_true(clock_wall_ns() > 1600000000ll * 1000000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random), cmocka_unit_test(test_machine),
        cmocka_unit_test(test_groups), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
