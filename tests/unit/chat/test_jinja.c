/* The interpreter's own promises: provenance, limits, errors with lines, and
 * corners of the language that no corpus row covers. Expected texts were taken
 * from jinja2 3.1 with transformers' settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "chat/jinja.h"

static const char *const vouched[] = {"bos_token", "messages[].role", "deep.list[].ok"};

static bool render(const char *source, const char *vars, const jinja_opts *opts, jinja_output *out,
                   error *err) {
    *out = (jinja_output){0};
    *err = (error){0};
    json_t *context = json_parse(str_from(vars), err);
    assert_non_null(context);
    jinja *t = jinja_parse(str_from(source), err);
    bool ok = t && jinja_render(t, context, opts, out, err);
    assert_true(ok || err->code == ERR_TEMPLATE);
    jinja_free(t);
    json_decref(context);
    return ok;
}

static void expect(const char *source, const char *vars, const char *want) {
    jinja_output out;
    error err;
    if (!render(source, vars, NULL, &out, &err)) fail_msg("%s: %s", source, err.message);
    assert_string_equal(out.text.ptr ? out.text.ptr : "", want);
    jinja_output_deinit(&out);
}

static void expect_error(const char *source, const char *vars, const char *want) {
    jinja_output out;
    error err;
    if (render(source, vars, NULL, &out, &err)) fail_msg("%s: rendered %s", source, out.text.ptr);
    if (!strstr(err.message, want))
        fail_msg("%s: wanted '%s', have '%s'", source, want, err.message);
    assert_true(strchr(".!?", err.message[strlen(err.message) - 1]) != NULL ||
                strcmp(err.message, want) == 0);
}

/* The output with what the template wrote in capital brackets: «trusted»data. */
static void expect_marked(const char *source, const char *vars, const char *want) {
    jinja_output out;
    error err;
    const jinja_opts opts = {.trusted = vouched, .n_trusted = 3};
    if (!render(source, vars, &opts, &out, &err)) fail_msg("%s: %s", source, err.message);
    buf marked = {0};
    size_t at = 0;
    for (size_t i = 0; i < out.n_trusted; i++) {
        assert_true(out.trusted[i].begin < out.trusted[i].end &&
                    out.trusted[i].end <= out.text.len);
        assert_true(i == 0 || out.trusted[i].begin > out.trusted[i - 1].end);
        buf_append(&marked, out.text.ptr + at, out.trusted[i].begin - at);
        buf_append_cstr(&marked, "«");
        buf_append(&marked, out.text.ptr + out.trusted[i].begin,
                   out.trusted[i].end - out.trusted[i].begin);
        buf_append_cstr(&marked, "»");
        at = out.trusted[i].end;
    }
    buf_append(&marked, out.text.ptr + at, out.text.len - at);
    assert_string_equal(marked.ptr ? marked.ptr : "", want);
    buf_deinit(&marked);
    jinja_output_deinit(&out);
}

static const char data[] =
    "{\"x\": \"USER\", \"n\": 7, \"l\": [\"a\", \"b\"], \"d\": {\"k\": \"v\"}, \"bos_token\": \"<s>\","
    " \"messages\": [{\"role\": \"user\", \"content\": \"hi\", \"deep\": {\"role\": \"no\"}}],"
    " \"deep\": {\"list\": [{\"ok\": \"yes\", \"okay\": \"no\"}]}, \"q\": \"a<b>&é\\n\"}";

static void provenance_survives(void **state) {
    (void)state;
    expect_marked("plain", data, "«plain»");
    expect_marked("{{ x }}", data, "USER");
    expect_marked("<|im_start|>{{ x }}<|im_end|>", data, "«<|im_start|>»USER«<|im_end|>»");
    expect_marked("{{ '<a>' + x + '<b>' ~ x ~ '<c>' }}", data, "«<a>»USER«<b>»USER«<c>»");
    expect_marked("{{ bos_token }}{{ x }}", data, "«<s>»USER");
    expect_marked("{{ ('  [' ~ x ~ ']  ')|trim }}", data, "«[»USER«]»");
    expect_marked("{{ ('a' ~ x ~ 'b')|upper }}{{ ('A' ~ x)|lower }}{{ ('a' ~ x)|title }}", data,
                  "«A»USER«Ba»user«A»user");
    expect_marked("{{ 'a-b-c'|replace('-', x) }}", data, "«a»USER«b»USER«c»");
    expect_marked("{{ x|replace('S', '<t>') }}", data, "U«<t>»ER");
    expect_marked("{{ l|join('<sep>') }}", data, "a«<sep>»b");
    expect_marked("{{ ['p', 'q']|join(x) }}", data, "«p»USER«q»");
    expect_marked(
        "{{ ('ab' ~ x)[1:4] }}{{ ('ab' ~ x)[::-1] }}{{ ('ab' ~ x)[-1] }}{{ x[0] ~ 'x'[0] }}", data,
        "«b»USRESU«ba»RU«x»");
    expect_marked("{% set y = '<t>' ~ x %}{{ y }}{% set ns = namespace(v=y) %}{{ ns.v }}", data,
                  "«<t>»USER«<t>»USER");
    expect_marked("{% set y %}<t>{{ x }}{% endset %}{{ y }}{{ y|length }}", data, "«<t>»USER7");
    expect_marked("{% macro m(a) %}<m>{{ a }}{% endmacro %}{{ m(x) }}{{ m('lit') }}", data,
                  "«<m>»USER«<m>lit»");
    expect_marked(
        "{% macro m() %}<m>{{ caller() }}{% endmacro %}{% call m() %}{{ x }}!{% endcall %}", data,
        "«<m>»USER«!»");
    expect_marked("{% filter upper %}<f>{{ x }}{% endfilter %}", data, "«<F>»USER");
    expect_marked("{% for c in '<' ~ x %}{{ c }}{% endfor %}", data, "«<»USER");
    expect_marked("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", data, "k«=»v");
    expect_marked("{{ d }}{{ [1, x] }}{{ {'a': 'b'} }}", data,
                  "{'k': 'v'}«[1, »'USER'«]{'a': 'b'}»");
    expect_marked("{{ d|tojson }}{{ {'a': x}|tojson }}{{ ('t' ~ x)|tojson }}{{ 'lit'|tojson }}",
                  data, "{\"k\": \"v\"}«{\"a\": »\"USER\"«}»\"«t»USER\"«\"lit\"»");
    expect_marked("{{ n }}{{ n + 1 }}{{ 1 + 1 }}{{ n|string }}{{ n * 'ab' }}{{ x * 2 }}", data,
                  "78«2»7«ababababababab»USERUSER");
    expect_marked("{{ x|length }}{{ l|length }}{{ [1]|length }}{{ x == 'USER' }}{{ 1 == 1 }}", data,
                  "42«1»True«True»");
    expect_marked(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ m.deep.role }}{{ loop.index }}{% endfor %}",
        data, "«<|user|>»hino«1»");
    expect_marked("{{ deep.list[0].ok }}{{ deep.list[0].okay }}", data, "«yes»no");
    expect_marked("{{ '%s|%5d|%s' % ('t', n, x) }}", data, "«t|    »7«|»USER");
    expect_marked("{{ '{}|{:>6}|{a}'.format('t', x, a=n) }}", data, "«t|  »USER«|»7");
    expect_marked("{{ x.split('S') }}{{ (x ~ ',t').split(',')[1] }}{{ 'a,b'.split(',')[0] }}", data,
                  "['U', 'ER']«ta»");
    expect_marked("{{ q|e }}{{ ('<' ~ q)|e }}{{ q|urlencode }}", data,
                  "a&lt;b&gt;&amp;é\n«&lt;»a&lt;b&gt;&amp;é\na%3Cb%3E%26%C3%A9%0A");
    expect_marked("{{ x|indent(2, true) }}{{ x.center(8, '*') }}{{ ('t' ~ x).partition('U') }}",
                  data, "«  »USER«**»USER«**»('«t»', 'U', 'SER')");
    expect_marked(
        "{{ x if x else 't' }}{{ x or 't' }}{{ '' or 't' }}{{ none or x }}{{ undefined|default('t') }}",
        data, "USERUSER«t»USER«t»");
    expect_marked(
        "{{ x|list|first }}{{ x|first ~ 'y' }}{{ l|map('upper')|join }}{{ l|sort|last }}{{ x|truncate(4, true, '!', 0) }}",
        data, "UU«y»ABbUSER");
    expect_marked("{{ strftime_now('%Y') }}{{ strftime_now(x) }}", data, "«1970»USER");
}

/* Appending in place must not leak into older strings that share the beginning. */
static void strings_are_values(void **state) {
    (void)state;
    expect(
        "{% set a = 'x' ~ 'y' %}{% set b = a ~ '1' %}{% set c = a ~ '2' %}{{ a }} {{ b }} {{ c }} {{ b ~ c }}",
        "{}", "xy xy1 xy2 xy1xy2");
    expect(
        "{% set ns = namespace(s='') %}{% set keep = namespace(l=[]) %}{% for i in range(5) %}{% set ns.s = ns.s ~ i %}"
        "{% set keep.l = keep.l + [ns.s] %}{% endfor %}{{ keep.l|join(',') }}",
        "{}", "0,01,012,0123,01234");
    expect("{% set l = [1, 2] %}{% set m = l %}{% set _ = l.append(3) %}{{ m }}{{ l + m }}", "{}",
           "[1, 2, 3][1, 2, 3, 1, 2, 3]");
}

static void language_corners(void **state) {
    (void)state;
    expect("{{ {'b': 1}.items() }}{{ (1,) }}{{ () }}{{ 1e16 }}{{ 1e-5 }}{{ 0.1 + 0.2 }}{{ -0.0 }}",
           "{}", "dict_items([('b', 1)])(1,)()1e+161e-050.30000000000000004-0.0");
    expect(
        "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1 < 2 < 3 }} {{ 1 in [1] == true }}",
        "{}", "-4 2 -2 64 4 True False");
    expect(
        "{% macro t(p, d=0) %}{% for k, v in p.items() %}{{ ' ' * d }}{{ k }}{% if v is mapping %}:\n{{ t(v, d + 1) }}{% else %}={{ v }}\n{% endif %}{% endfor %}"
        "{% endmacro %}{{ t(x) }}",
        "{\"x\": {\"a\": {\"b\": {\"c\": 1}}, \"e\": null}}", "a:\n b:\n  c=1\ne=None\n");
    expect(
        "{% for i in range(9) if i is odd %}{% if i == 3 %}{% continue %}{% elif i > 5 %}{% break %}{% endif %}{{ loop.index }}:{{ i }} {% endfor %}",
        "{}", "1:1 3:5 ");
    expect(
        "{% for i in [[1, [2]], 3] recursive %}{% if i is iterable %}[{{ loop(i) }}]{% else %}{{ i }}@{{ loop.depth }}{% endif %}{% endfor %}",
        "{}", "[1@2[2@3]]3@1");
    expect("{{ '<b>'|safe + '<i>' }} {{ ('<b>'|safe) ~ '<i>' }}", "{}", "<b>&lt;i&gt; <b><i>");
    expect("{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
           "{}", "231");
    expect("{% set g = m|selectattr('a') %}{{ g|list|length }}{{ g|list|length }}{{ 'true' if g }}",
           "{\"m\": [{\"a\": 1}, {\"a\": 0}]}", "10true");
    expect("{{ m.items is defined }}{{ m['items'] }}{{ m.none is defined }}",
           "{\"m\": {\"items\": 5}}", "True5False");
    expect("{{ 'ΑΣ ß é'.lower() }}{{ 'ß'|upper }}{{ 'héé'[1:] }}{{ 'héé'|length }}{{ '日本'[-1] }}",
           "{}", "ας ß éSSéé3本");
    expect("a\r\n{% if true %}\r\n  b\r{% endif %}\nc\n", "{}", "a\n  b\nc");
    expect("{% raw %}{{ x }}{% endraw %}{{ '}}' }}{{ {'a': {}} }}", "{}", "{{ x }}}}{'a': {}}");
    expect("{% generation %}{% set y = 1 %}{{ y }}{% endgeneration %}{{ y is defined }}", "{}",
           "1False");
}

/* What calls with any argument found to differ from Jinja2. */
static void pythons_corners(void **state) {
    (void)state;
    expect(
        "{{ '  two words \\n'.split(none, 1) }}{{ ' a b '.rsplit(none, 1) }}{{ 'aaa'.rsplit('aa') }}",
        "{}", "['two', 'words \\n'][' a', 'b']['a', '']");
    expect(
        "{{ 'abc'.find('', 9) }}{{ 'abc'.count('', 9) }}{{ 'abc'.startswith('', 9) }}{{ 'aba'.find('a', 1) }}{{ 'abc'.find('', 3) }}",
        "{}", "-10False23");
    expect("{{ '\\x7f'|tojson(ensure_ascii=true) }}{{ '\\x7fé'|tojson }}", "{}",
           "\"\\u007f\"\"\x7fé\"");
    expect(
        "{{ [x, y]|sort(attribute='v') }}{{ [none, none]|sort }}{{ [x, y]|unique(attribute='v')|list|length }}",
        "{\"x\": {}, \"y\": {\"a\": 1}}", "[{}, {'a': 1}][None, None]1");
    expect("{{ [1, 2, 3, 4]|slice(2, 'x')|list }}{{ [1, 2]|batch('n')|list }}", "{}",
           "[[1, 2, 'x'], [3, 4, 'x']][[1, 2]]");
    expect("{{ 0 // -0.5 }} {{ 1 % -0.5 }} {{ 7 / 9007199254740993 }}", "{}",
           "-0.0 -0.0 7.771561172376095e-16");
    expect(
        "{{ range(9)[2:7:2] }}{{ range(3) in {} }}{{ {range(2): 1}[range(2)] }}{{ ('a'|safe)|list }}",
        "{}", "range(2, 7, 2)False1['a']");
    expect("{{ '{0}{0.k}{0[k]}|{a!r:>5}|{b:5}'.format(d, a='x', b=true) }}", "{\"d\": {\"k\": 1}}",
           "{'k': 1}11|  'x'|    1");
    expect("{{ 'abc' % missing }}{{ 'abc' % range(2) }}{{ '%.*f' % (-3, 2.6) }}", "{}", "abcabc3");
    expect("{{ 'ﬁn ŉ'|upper }} {{ 'ﬁn'|title }} {{ 'İ'|lower|length }} {{ 'ǅ'.swapcase() }}", "{}",
           "FIN ʼN FIn 2 ǆ");
    expect_error("{{ 'a'.replace(old='a', new='b') }}", "{}", "misses its argument 'old'");
    expect_error("{{ [1]|sort('n') }}", "{}", "cannot be interpreted as an integer");
    expect_error("{{ 'a'.center(1, 'xy') }}", "{}", "exactly one character");
    expect_error("{{ '{!x}'.format(1) }}{{ '{:.1}'.format(1) }}", "{}", "conversion specifier x");
    expect_error("{{ '{:.1}'.format(1) }}", "{}", "Precision not allowed");
    expect_error("{{ '%5%' % 1 }}", "{}", "unsupported format character");
    expect_error("{{ 0.0 ** -1 }}", "{}", "negative power");
    expect_error("{{ [1]|sum(start='') }}", "{}", "can't sum strings");
    expect_error("{{ 012 }}", "{}", "begins with 0");
    expect_error("{{ dict(a=1, a=2) }}", "{}", "named twice");
    expect_error("{% macro m(a, a) %}{% endmacro %}", "{}", "one name");
    expect_error("{% macro m(caller) %}{% endmacro %}", "{}", "needs a default");
}

/* Python's integers have no end, ours have 64 bits: what is beyond says so. */
static void integers_are_exact_or_an_error(void **state) {
    (void)state;
    static const char beyond[] = "does not fit into 64 bits";
    expect(
        "{{ '9223372036854775807'|int }} {{ '-9223372036854775808'|int }} {{ ' 0x_7f '|int(0, 16) }} "
        "{{ '1_000'|int }} {{ '1__0'|int(7) }} {{ '0x'|int(7, 16) }} {{ ''|int(7) }} {{ '+'|int(7) }} {{ '_1'|int(7) }}",
        "{}", "9223372036854775807 -9223372036854775808 127 1000 7 7 7 7 7");
    expect("{{ '42.9'|int }} {{ '1e3'|int }} {{ 'nan'|int(7) }} {{ -9.223372036854775e18|int }}",
           "{}", "42 1000 7 -9223372036854774784");
    expect_error("{{ '9223372036854775808'|int }}", "{}", beyond);
    expect_error("{{ '-9223372036854775809'|int(5) }}", "{}", beyond);
    expect_error("{{ ('1' * 500)|int }}", "{}", beyond);
    expect_error("{{ 'ffffffffffffffff'|int(0, 16) }}", "{}", beyond);
    expect_error("{{ '1e30'|int }}", "{}", beyond);
    expect_error("{{ 1e30|int }}", "{}", beyond);
    expect_error("{{ 1e30|round(none) }}", "{}", beyond);
    expect_error("{{ (1e308 * 10)|int }}", "{}", "infinity");
    expect_error("{{ 9223372036854775808 }}", "{}", "too large");
    expect("{{ ('0' * 500 ~ '1.5')|float }} {{ ('0' * 500)|int }}", "{}", "1.5 0");
    expect(
        "{{ 1234567890123456789|round(-1) }} {{ 9007199254740993|round(-1) }} {{ 25|round(-1) }} {{ 35|round(-1) }} "
        "{{ -26|round(-1) }} {{ 9223372036854775807|round(-2) }} {{ 6|round(-1) }} {{ 5|round(-1) }} {{ 7|round(-2) }}",
        "{}", "1234567890123456790 9007199254740990 20 40 -30 9223372036854775800 10 0 0");
    expect(
        "{{ 4999999999999999999|round(-19) }} {{ 9223372036854775807|round(-20) }} {{ 9|round(-999) }} {{ 7|round(none) }}",
        "{}", "0 0 0 7");
    expect_error("{{ 9223372036854775807|round(-1) }}", "{}", beyond);
    expect_error("{{ 6000000000000000000|round(-19) }}", "{}", beyond);
    expect(
        "{{ 25.0|round(-1) }} {{ 35.0|round(-1) }} {{ -4.0|round(-1) }} {{ 5.0|round(-1) }} {{ 5.1|round(-1) }} {{ 99.5|round(-1) }} "
        "{{ 2500000000000000.5|round(-15) }} {{ 0.4|round(-1) }} {{ 7.5|round(-3) }} {{ 1e300|round(-299) }}",
        "{}", "20.0 40.0 -0.0 0.0 10.0 100.0 3000000000000000.0 0.0 0.0 1e+300");
    expect_error("{{ 1.7e308|round(-308) }}", "{}", "too large");
    expect("{{ 12345678901234567|round(2, 'ceil') }} {{ 15|round(-1, 'floor') }}", "{}",
           "1.2345678901234568e+16 10.0");
    expect(
        "{{ 9007199254740993 == 9007199254740992.0 }} {{ 9007199254740993 > 9007199254740992.0 }} {{ 9223372036854775807 < 1e19 }} "
        "{{ -1e19 < 3 }} {{ {1152921504606846976: 1}[1152921504606846976.0] == 1 }} {{ 3.5 > 3 }} {{ -3.5 < -3 }} {{ 3 < 3.5 }} {{ 0 == -0.0 }} {{ 9223372036854775807 == 9223372036854775808.0 }}",
        "{}", "False True True True True True True True True False");
    expect("{{ x }} {{ y.n }}", "{\"x\": 7, \"y\": {\"n\": 0, \"most\": 18446744073709551615}}",
           "7 0");
}

static void the_clock_is_the_callers(void **state) {
    (void)state;
    jinja_output out;
    error err;
    const jinja_opts opts = {.now_unix_s = 1753531200, .utc_offset_s = 3600 * 13};
    assert_true(render("{{ strftime_now('%d %b %Y %H:%M %%') }}", "{}", &opts, &out, &err));
    assert_string_equal(out.text.ptr, "27 Jul 2025 01:00 %");
    jinja_output_deinit(&out);
}

static void errors_name_the_line(void **state) {
    (void)state;
    expect_error("\n\n{{ a b }}", "{}", "Template line 3: ");
    expect_error("a\n{% if x %}\n", "{}", "'endif' is missing");
    expect_error("{% wat %}", "{}", "Template line 1: unknown tag 'wat'");
    expect_error("{{ 'a }}", "{}", "a string does not end");
    expect_error("\n{# a", "{}", "Missing end of comment tag");
    expect_error("{% break %}", "{}", "outside of a loop");
    expect_error("{{ (1] }}", "{}", "unexpected ']'");
    expect_error("\n\n\n{{ x.y }}", "{}", "Template line 4: 'x' is undefined");
    expect_error("{% macro m() %}\n{{ 1 // 0 }}{% endmacro %}\n\n{{ m() }}", "{}",
                 "Template line 2: integer division");
    expect_error("{{ d.a.b }}", "{\"d\": {}}", "'dict object' has no attribute 'a'");
    expect_error("{{ none + 'a' }}", "{}",
                 "unsupported operand type(s) for +: 'NoneType' and 'str'");
    expect_error("{{ 'a' + none }}", "{}", "can only concatenate str (not \"NoneType\") to str");
    expect_error("{{ x|nope }}", "{}", "No filter named 'nope'");
    expect_error("{% if false %}{{ x|nope }}{% endif %}{{ 1 is nope }}", "{}",
                 "No test named 'nope'");
    expect_error("{{ 9223372036854775807 + 1 }}", "{}", "64 bits");
    expect_error("{{ x|select|tojson }}", "{\"x\": [1]}",
                 "Object of type generator is not JSON serializable");
    expect_error("{{ raise_exception('Roles must alternate') }}", "{}", "Roles must alternate");
    expect_error("{% include 'x' %}", "{}", "needs other templates");
}

static void raise_exception_is_the_whole_message(void **state) {
    (void)state;
    jinja_output out;
    error err;
    assert_false(
        render("\n{{ raise_exception('No ' ~ x ~ '!') }}", "{\"x\": \"é\"}", NULL, &out, &err));
    assert_string_equal(err.message, "No é!");
}

static void expect_limit(const char *source, const char *want) {
    const jinja_opts opts = {.limits = {.max_steps = 200000,
                                        .max_depth = 300,
                                        .max_output_bytes = 1 << 20,
                                        .max_memory_bytes = 8 << 20}};
    jinja_output out;
    error err;
    double begin = (double)clock_cpu_ns();
    if (render(source, "{}", &opts, &out, &err))
        fail_msg("%s: rendered %zu bytes", source, out.text.len);
    if (!strstr(err.message, want) || strncmp(err.message, "Template line ", 14) != 0)
        fail_msg("%s: wanted '%s', have '%s'", source, want, err.message);
    assert_true((double)clock_cpu_ns() - begin < 5e9);
}

static void hostile_templates_end_in_a_sentence(void **state) {
    (void)state;
    expect_limit("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                 "steps");
    expect_limit("{% set a = 'a' * 9999 %}{% for i in range(99999) %}{{ a }}{% endfor %}",
                 "writes more than 1048576 bytes");
    expect_limit("{{ 'ab' * 99999999999 }}", "more than");
    expect_limit("{{ [1] * 99999999999 }}", "more than");
    expect_limit(
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "memory");
    expect_limit(
        "{% set ns = namespace(s='aa') %}{% for i in range(99) %}{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}",
        "more than");
    expect_limit(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "more than");
    expect_limit(
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l }}{{ ns.l }}",
        "more than");
    expect_limit(
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
        "more than");
    expect_limit("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deep");
    expect_limit("{% macro m(x) %}{{ m(m(x)) }}{% endmacro %}{{ m(1) }}", "deep");
    expect_limit("{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}", "deep");
    expect_limit("{% macro a() %}{% call a() %}{{ caller() }}{% endcall %}{% endmacro %}{{ a() }}",
                 "deep");
    expect_limit(
        "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "deep");
    expect_limit("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "deep");
    expect_limit(
        "{% set l = [] %}{% set _ = l.append(l) %}{% set m = [] %}{% set _ = m.append(m) %}{{ l == m }}",
        "deep");
    expect_limit("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", "deep");
    expect_limit("{{ '%999999999d' % 1 }}{{ '%999999999s' % 'x' * 999 }}", "more than");
    expect_limit("{{ '{:>60000}'.format('x') * 999 }}", "more than");
    expect_limit("{{ 'x'.center(9999999999) }}", "more than");
    expect_limit("{{ [1,[2]]|tojson(indent=999999999999) }}", "more than");
    expect_limit("{{ range(9)|batch(9999999999, 'x')|list }}", "more than");
    expect_limit("{{ range(9)|slice(9999999999)|list }}", "more than");
    expect_limit("{{ 'x'|indent(9999999999, true) }}", "more than");
    expect_limit("{% for i in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
                 "more than");
    expect_error("{{ range(100001) }}", "{}", "Range too big");
}

static char *repeated(const char *head, const char *piece, int n, const char *tail) {
    buf b = {0};
    buf_append_cstr(&b, head);
    for (int i = 0; i < n; i++) buf_append_cstr(&b, piece);
    buf_append_cstr(&b, tail);
    return buf_take(&b, NULL);
}

static void hostile_nesting_does_not_parse(void **state) {
    (void)state;
    static const struct {
        const char *head, *piece, *tail;
    } shapes[] = {
        {"{{ ", "(", ""},          {"{{ ", "[", ""},
        {"{{ ", "{1:", ""},        {"{{ ", "-", "1 }}"},
        {"{{ ", "not ", "1 }}"},   {"{{ 1", " + 1", " }}"},
        {"{{ x", ".a", " }}"},     {"{{ x", "[0]", " }}"},
        {"{{ x", "|upper", " }}"}, {"{{ x", "()", " }}"},
        {"{{ 1", " ** 2", " }}"},  {"{{ 1", " if 1 else 1", " }}"},
        {"", "{% if 1 %}", ""},    {"", "{% for x in y %}", ""},
        {"{% set ", "(", "a"},     {"{% for ", "(", "a"},
        {"{{ 1", " and 1", " }}"}, {"{{ 1", " or 1", " }}"},
        {"{{ x", " is a", " }}"},  {"{{ f(", "f(", ""},
        {"{{ 1", " if 1", " }}"},  {"{% call f() %}", "{% call f() %}", ""},
        {"{% set x", "|f", " %}"},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char *source = repeated(shapes[i].head, shapes[i].piece, 20000, shapes[i].tail);
        error err = {0};
        assert_null(jinja_parse(str_from(source), &err));
        if (err.code != ERR_TEMPLATE || strncmp(err.message, "Template line 1: ", 17) != 0)
            fail_msg("%s: %s", shapes[i].piece, err.message);
        free(source);
    }
    char *long_if = repeated("{% if 0 %}", "{% elif 0 %}", 20000, "{% endif %}x");
    expect(long_if, "{}", "x");
    free(long_if);
    char *many = repeated("{{ ''", " ~ 'x'", 20000, "}}");
    error err = {0};
    jinja *t = jinja_parse(str_from(many), &err);
    assert_non_null(t);
    jinja_free(t);
    free(many);
    char *huge = repeated("", "0123456789", JINJA_MAX_SOURCE_BYTES / 10 + 1, "");
    assert_null(jinja_parse(str_from(huge), &err));
    free(huge);
}

/* As deep as the limits allow must fit the stack of an ordinary thread. */
static void the_deepest_allowed_fits_the_stack(void **state) {
    (void)state;
    char *sum = repeated("{{ m(", "1 + ", 350, "1) }}");
    char *source = repeated("{% macro m(x) %}", "{% if true %}", 100,
                            "{{ [m(x + (1 + (1 + (1 + x|int))))]|map('string')|list }}");
    buf b = {0};
    buf_append_cstr(&b, source);
    for (int i = 0; i < 100; i++) buf_append_cstr(&b, "{% endif %}");
    buf_append_cstr(&b, "{% endmacro %}");
    buf_append_cstr(&b, sum);
    expect_error(b.ptr, "{}", "deep");
    buf_deinit(&b);
    free(source);
    free(sum);
}

static void a_template_is_shared(void **state) {
    (void)state;
    error err = {0};
    jinja *t = jinja_parse(
        STR("{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}{% endfor %}"), &err);
    assert_non_null(t);
    assert_true(jinja_mentions(t, STR("messages")));
    assert_false(jinja_mentions(t, STR("tools")));
    for (int i = 0; i < 3; i++) {
        json_t *context =
            json_pack("{s:[{s:s,s:s}]}", "messages", "role", "user", "content", " é ");
        jinja_output out;
        assert_true(jinja_render(t, context, NULL, &out, &err));
        assert_string_equal(out.text.ptr, "<user>é");
        jinja_output_deinit(&out);
        json_decref(context);
    }
    jinja_free(t);
}

/* Memory grows with the conversation, not with its square: ~ and + append in place. */
static void long_chats_are_linear(void **state) {
    (void)state;
    error err = {0};
    jinja *t = jinja_parse(
        STR("{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + '<|' + m.role + '|>' + m.content + '\n' %}"
            "{% endfor %}{{ ns.s }}"),
        &err);
    assert_non_null(t);
    json_t *messages = json_array();
    for (int i = 0; i < 4000; i++)
        json_array_append_new(
            messages, json_pack("{s:s,s:s}", "role", i % 2 ? "assistant" : "user", "content",
                                "some words of a message, then some more of them"));
    json_t *context = json_pack("{s:o}", "messages", messages);
    const jinja_opts opts = {.limits = {.max_memory_bytes = 16 << 20}};
    jinja_output out;
    if (!jinja_render(t, context, &opts, &out, &err)) fail_msg("%s", err.message);
    assert_true(out.text.len > 200000);
    assert_int_equal(out.n_trusted, 1 + 2 * 4000); /* <| … |> … \\n<| … */
    jinja_output_deinit(&out);
    json_decref(context);
    jinja_free(t);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(provenance_survives),
        cmocka_unit_test(strings_are_values),
        cmocka_unit_test(language_corners),
        cmocka_unit_test(pythons_corners),
        cmocka_unit_test(integers_are_exact_or_an_error),
        cmocka_unit_test(the_clock_is_the_callers),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(raise_exception_is_the_whole_message),
        cmocka_unit_test(hostile_templates_end_in_a_sentence),
        cmocka_unit_test(hostile_nesting_does_not_parse),
        cmocka_unit_test(the_deepest_allowed_fits_the_stack),
        cmocka_unit_test(a_template_is_shared),
        cmocka_unit_test(long_chats_are_linear),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
