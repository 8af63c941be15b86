/* What the files of the Jinja interpreter share; nobody else includes this.
 *
 *   jinja_lex.c      source → tokens; white-space control happens here
 *   jinja_parse*.c   tokens → tree (struct node), names interned, filters resolved
 *   jinja_render.c   the door's render, failing, limits
 *   jinja_exec.c     statements and scopes
 *   jinja_eval.c     expressions
 *   jinja_call.c     arguments, macros, calls
 *   jinja_attr.c     obj.name and obj[key]
 *   jinja_arith.c    + - * / // % **
 *   jinja_value.c    values: strings with provenance, lists, dicts, printing, comparing
 *   jinja_text.c     code points: slicing by character, case, strip, split
 *   jinja_format.c   '%', str.format, numbers, strftime
 *   jinja_json.c     JSON context → values, values → JSON text
 *   jinja_methods.c  methods of str, list, dict, and the global functions
 *   jinja_filters*.c filters
 *   jinja_tests.c    tests
 *
 * Failing: jinja_fail() sets the error once and marks the run; every function
 * then returns something harmless and loops stop because tick() says no.
 */
#ifndef CHAT_JINJA_IMPL_H
#define CHAT_JINJA_IMPL_H

#include "base/arena.h"
#include "chat/jinja.h"

typedef struct rt rt;
typedef struct node node;
typedef struct builtin builtin;

/* ── Values ── */

typedef enum vkind {
    V_MISSING, /* an argument that was not given; templates never see it */
    V_UNDEF,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_SEQ,
    V_DICT,
    V_NAMESPACE, /* a dict whose entries are attributes */
    V_MACRO,
    V_BUILTIN, /* a global function */
    V_METHOD,  /* "abc".upper before it is called */
    V_LOOP,
    V_CYCLER,
    V_JOINER,
} vkind;

typedef struct value {
    uint8_t kind;
    bool data;   /* computed from what the template did not write. A string with a mask: true */
    bool markup; /* a string that went through `safe` or `escape`: Python's Markup */
    union {
        bool b;
        int64_t i;
        double f;
        struct string *s;
        struct seq *seq;
        struct dict *dict;
        struct undef *undef;
        struct macro *macro;
        const builtin *builtin;
        struct bound *bound;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
    };
} value;

/* A string that grows at its end; strings made by + and ~ stay attached to theirs, so that building
 * a long text piece by piece costs linear time. Memory is the render's arena. */
typedef struct grow {
    char *ptr;
    uint8_t *mask; /* per byte: trusted? NULL while all bytes agree on `data` */
    size_t len, cap, max;
    bool data;
} grow;

typedef struct string {
    const char *ptr;
    size_t len;
    const uint8_t *mask; /* NULL: value.data speaks for every byte; else 1 = trusted */
    grow *owner;         /* the grow this is the whole content of, or NULL */
    ptrdiff_t n_chars;   /* -1: not counted yet */
} string;

typedef enum seq_type {
    SEQ_LIST,
    SEQ_TUPLE,
    SEQ_GROUP, /* groupby's pair: a tuple with .grouper and .list */
    SEQ_RANGE,
    SEQ_KEYS,
    SEQ_VALUES,
    SEQ_ITEMS,
    SEQ_ITER, /* a generator: no length, always true, read once */
} seq_type;

typedef struct seq {
    value *items;
    size_t n, cap;
    seq_type type;
    int64_t start, stop, step; /* SEQ_RANGE, for printing */
} seq;

typedef struct dict_entry {
    value key, val;
    uint64_t hash;
} dict_entry;

typedef struct dict {
    dict_entry *e; /* in order of insertion */
    size_t n, cap;
    uint32_t *index; /* open addressing, entry + 1; NULL while small */
    size_t n_index;
} dict;

typedef struct undef {
    str name;
    const char *object; /* what it was looked up in, as Jinja words it; NULL: a variable */
    const char *hint;   /* the whole sentence instead */
    bool is_element;    /* no such element rather than no such attribute */
} undef;

typedef struct scope {
    struct scope *parent;
    struct binding {
        int id;
        value v;
    } * vars;
    int n, cap;
} scope;

typedef struct macro {
    const node *def;
    scope *scope; /* where it was defined */
} macro;

typedef struct bound {
    value self;
    const builtin *fn;
} bound;

typedef struct loop {
    const node *def;
    scope *outer;
    value *items;
    size_t n, at;
    int depth0;
    value changed; /* what loop.changed() was given last */
} loop;

typedef struct cycler {
    value *items;
    size_t n, at;
} cycler;

typedef struct joiner {
    value sep;
    bool used;
} joiner;

/* Arguments of a call as written: positions, then names. */
typedef struct kwarg {
    str name;
    value v;
} kwarg;
typedef struct args {
    value *pos;
    int n_pos;
    kwarg *kw;
    int n_kw;
} args;

/* A filter, test, method or function written in C. `params` names the parameters in order,
 * separated by spaces: "old new count"; "*" means the raw args are taken. a[] has one entry per
 * parameter, V_MISSING where none was given. */
enum { BUILTIN_MAX_PARAMS = 6 };
typedef value builtin_fn(rt *r, value self, value *a, const args *raw);
struct builtin {
    const char *name;
    builtin_fn *fn;
    uint8_t n_required;
    const char *params;
};

/* ── Tree ── */

typedef enum node_kind {
    /* expressions */
    N_CONST,   /* v */
    N_NAME,    /* id, name */
    N_LIST,    /* kids */
    N_TUPLE,   /* kids */
    N_DICT,    /* kids: key, value, key, value … */
    N_ATTR,    /* a.name; v = name as a string; methods[] */
    N_ITEM,    /* a[b] */
    N_SLICE,   /* a:b:c, each may be NULL; only as the index of N_ITEM */
    N_CALL,    /* a(kids) */
    N_FILTER,  /* a|name(kids); fn or NULL. a NULL: the text of the enclosing block */
    N_TEST,    /* a is [not: op] name(kids); fn or NULL */
    N_BINARY,  /* a op b */
    N_CONCAT,  /* kids joined by ~ */
    N_COMPARE, /* a, then kids: N_COMPARE with op and a */
    N_AND,
    N_OR,  /* a, b */
    N_NOT, /* a */
    N_NEG,
    N_POS,
    N_COND,   /* b if a else c; c may be NULL */
    N_KWARG,  /* name=a, among kids of a call */
    N_STAR,   /* *a */
    N_DSTAR,  /* **a */
    N_NSATTR, /* target: id.name */
    /* statements */
    N_TEXT,        /* v */
    N_PRINT,       /* a */
    N_FOR,         /* for a in b if c: kids, else: body2; op: recursive */
    N_IF,          /* a: kids; c: the next elif (N_IF) or NULL; body2: else */
    N_SET,         /* a = b */
    N_SETBLOCK,    /* a = filters b (or NULL) of kids */
    N_MACRO,       /* name, id; params: N_PARAM; kids; op: MACRO_* flags */
    N_PARAM,       /* id, name, a: default or NULL */
    N_CALLBLOCK,   /* a: N_CALL, b: N_MACRO called "caller" */
    N_FILTERBLOCK, /* filters b of kids */
    N_WITH,        /* params: N_SET; kids */
    N_SCOPE,       /* kids in a scope of their own */
    N_BREAK,
    N_CONTINUE,
} node_kind;

enum { MACRO_VARARGS = 1, MACRO_KWARGS = 2, MACRO_CALLER = 4 };

typedef enum node_op {
    OP_NONE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
} node_op;

struct node {
    uint8_t kind;
    uint8_t op;
    uint16_t height;
    int line;
    int id;     /* of a variable's name */
    node *next; /* in a list of kids */
    node *a, *b, *c;
    node *kids, *params, *body2;
    int n_kids;
    str name;
    value v;
    const builtin *fn;
    const builtin *methods[3]; /* N_ATTR: the method of that name of str, list, dict */
};

struct jinja {
    arena mem;
    node *body;
    str *names; /* by id */
    int n_names;
    int id_loop, id_caller, id_varargs, id_kwargs;
};

/* ── Tokens ── */

typedef enum token_type {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    /* operators */
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
} token_type;

typedef struct token {
    token_type type;
    int line;
    str text; /* data, name, or a string's content with escapes resolved */
    int64_t i;
    double f;
} token;

/* The tokens of a source that is valid UTF-8, ended by T_EOF; they live in `mem`. */
token *jinja_lex(arena *mem, str source, size_t *n, error *err);

/* ── A run ── */

struct rt {
    const jinja *t;
    arena mem;
    error *err;
    jinja_limits lim;
    const jinja_opts *opts;
    const json_t *context;
    uint64_t steps;
    int depth, line;
    bool failed;
    enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;
    value *globals; /* by name id: from the context, else a builtin, else V_MISSING */
    scope *scope;
    grow *out;
    value block_text; /* what the innermost filter or set block rendered */
};

value jinja_fail(rt *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
value jinja_raise(rt *r, str message);           /* the template's own words, no line */
void *jinja_alloc(rt *r, size_t n, size_t size); /* NULL: the run has failed */

/* One step. False once the run has failed. */
bool jinja_out_of_steps(rt *r);
static inline bool tick(rt *r) {
    if (++r->steps > r->lim.max_steps) return jinja_out_of_steps(r);
    return !r->failed;
}
/* Work over n bytes. */
static inline bool charge(rt *r, size_t n) {
    r->steps += n >> 6;
    return tick(r);
}
/* Around everything recursive. False: too deep, do not go on; do not leave either. */
bool jinja_enter(rt *r);
static inline void jinja_leave(rt *r) {
    r->depth--;
}

/* jinja_value.c */
static inline value v_none(void) {
    return (value){.kind = V_NONE};
}
static inline value v_bool(bool b, bool data) {
    return (value){.kind = V_BOOL, .data = data, .b = b};
}
static inline value v_int(int64_t i, bool data) {
    return (value){.kind = V_INT, .data = data, .i = i};
}
static inline value v_float(double f, bool data) {
    return (value){.kind = V_FLOAT, .data = data, .f = f};
}
static inline value v_seq(seq *s) {
    return (value){.kind = V_SEQ, .seq = s};
}
static inline value v_dict(dict *d) {
    return (value){.kind = V_DICT, .dict = d};
}
static inline bool given(value v) {
    return v.kind != V_MISSING;
}
static inline bool is_number(value v) {
    return v.kind >= V_BOOL && v.kind <= V_FLOAT;
}
static inline bool is_int(value v) {
    return v.kind == V_BOOL || v.kind == V_INT;
}
static inline int64_t as_int(value v) {
    return v.kind == V_BOOL ? v.b : v.i;
}
static inline double as_float(value v) {
    return v.kind == V_FLOAT ? v.f : (double)as_int(v);
}
static inline bool is_list(value v) {
    return v.kind == V_SEQ && v.seq->type == SEQ_LIST;
}
static inline bool is_tuple(value v) {
    return v.kind == V_SEQ && (v.seq->type == SEQ_TUPLE || v.seq->type == SEQ_GROUP);
}
static inline str as_str(value v) {
    return v.kind == V_STR ? (str){v.s->ptr, v.s->len} : (str){0};
}

value jinja_str(rt *r, str s, bool data);                  /* borrows the bytes */
value jinja_cstr(rt *r, const char *s);                    /* trusted, borrowed */
value jinja_sub(rt *r, value s, size_t begin, size_t end); /* bytes of a string */
value jinja_undef(rt *r, const char *object, str name, bool is_element);
value jinja_undef_hint(rt *r, const char *hint);
value jinja_fail_undef(rt *r, value v); /* the sentence Jinja says on using it */
const char *jinja_type(value v);        /* Python's name of its type */
const char *jinja_object(value v);      /* "dict object", "None" */

grow *jinja_grow(rt *r);
void jinja_put(rt *r, grow *g, const char *p, size_t n, const uint8_t *mask, bool data);
void jinja_put_cstr(rt *r, grow *g, const char *s, bool data);
void jinja_put_str(rt *r, grow *g, value s);                           /* V_STR */
void jinja_put_sub(rt *r, grow *g, value s, size_t begin, size_t end); /* bytes of a V_STR */
value jinja_grown(rt *r, grow *g);
void jinja_print(rt *r, grow *g, value v); /* as str() */
void jinja_repr(rt *r, grow *g, value v);
value jinja_to_str(rt *r, value v); /* str(v): a V_STR, markup kept if it was one */
value jinja_concat(rt *r, value a, value b);
value jinja_escape(rt *r, value v); /* HTML; a markup string */

seq *jinja_seq(rt *r, seq_type type, size_t cap);
void jinja_push(rt *r, seq *s, value v);
/* The items a loop over v would see (a copy that later changes do not reach); NULL after failing. */
seq *jinja_iter(rt *r, value v);

dict *jinja_dict(rt *r);
value *jinja_dict_find(rt *r, const dict *d, value key); /* NULL when absent or not hashable */
value *jinja_dict_find_str(const dict *d, str key);
void jinja_dict_set(rt *r, dict *d, value key, value v);
void jinja_dict_del(rt *r, dict *d, value *val); /* val: what find returned */

bool jinja_true(value v);
bool jinja_eq(rt *r, value a, value b);
int jinja_cmp(rt *r, value a, value b, const char *op); /* fails where Python raises TypeError */
bool jinja_in(rt *r, value item, value container);
int64_t jinja_len(rt *r, value v); /* fails where len() does */
bool jinja_has_len(value v);

/* jinja_text.c: everything counts characters unless it says bytes */
size_t jinja_n_chars(value s);
size_t jinja_offset(value s, size_t at); /* byte offset of a character */
bool jinja_is_space(uint32_t cp);
bool jinja_is_printable(uint32_t cp);
bool jinja_is_word(uint32_t cp); /* \w */
uint32_t jinja_char(str s, size_t at, size_t *next);
value jinja_slice(rt *r, value v, value start, value stop, value step);
typedef enum text_case {
    CASE_UPPER,
    CASE_LOWER,
    CASE_CAPITAL,
    CASE_TITLE,
    CASE_SWAP,
    CASE_FILTER_TITLE
} text_case;
value jinja_case(rt *r, value s, text_case how);
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
value jinja_strip(rt *r, value s, value chars, int sides);
value jinja_replace(rt *r, value s, value old, value new, int64_t count);
value jinja_split(rt *r, value s, value sep, int64_t max);
value jinja_rsplit(rt *r, value s, value sep, int64_t max);
value jinja_splitlines(rt *r, value s, bool keep_ends);
value jinja_join(rt *r, value sep, seq *items);
value jinja_repeat(rt *r, value s, int64_t n);
bool jinja_is_case(value s, bool upper);
typedef bool char_test(uint32_t cp);
bool jinja_all_chars(value s, char_test *test); /* false for "" */
char_test jinja_is_alpha, jinja_is_digit, jinja_is_decimal, jinja_is_numeric, jinja_is_alnum;

/* jinja_format.c */
enum { FLOAT_TEXT = 40 };
size_t jinja_float_text(double f, char out[FLOAT_TEXT]); /* Python's repr(float) */
value jinja_percent(rt *r, value fmt, value arg);
value jinja_format(rt *r, value fmt, const args *in);
value jinja_strftime(rt *r, value fmt);
/* int(str, base). *is_beyond, which may be NULL, tells why not: it is one, but not of 64 bits. */
bool jinja_parse_int(str s, int base, int64_t *out, bool *is_beyond);
bool jinja_parse_float(str s, double *out); /* float(str) */

/* jinja_json.c */
value jinja_from_json(rt *r, const json_t *j, str name);
typedef struct json_style {
    bool ensure_ascii, sort_keys;
    value indent;            /* V_NONE, V_INT or V_STR */
    value item_sep, key_sep; /* V_MISSING: the usual */
} json_style;
value jinja_to_json(rt *r, value v, const json_style *style);

/* jinja_methods.c */
typedef enum method_of { METHOD_STR, METHOD_LIST, METHOD_DICT } method_of;
const builtin *jinja_find_method(method_of of, str name);
const builtin *jinja_find_global(str name);

/* jinja_filters.c, jinja_tests.c */
const builtin *jinja_find_filter(str name);
const builtin *jinja_find_test(str name);

/* jinja_attr.c */
value jinja_getattr(rt *r, value obj, str name);
value jinja_getitem(rt *r, value obj, value key);

/* jinja_call.c. what: "filter", "test", "method" or "function", for the sentence when it fails. */
value jinja_call_builtin(rt *r, const builtin *fn, const char *what, value self, const args *in);
/* An argument that must be an integer; fallback when it was not given, or after failing. */
int64_t jinja_whole(rt *r, value v, int64_t fallback);

/* jinja_arith.c */
value jinja_overflow(rt *r); /* fails: an integer of more than 64 bits */
value jinja_binary(rt *r, node_op op, value a, value b);
value jinja_sign(rt *r, bool minus, value v); /* -v or +v */

#endif
