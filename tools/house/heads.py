"""A second start, for the attention of the two upper layers. Training leaves it idle: one look back and one copy, in the lower two, do for nearly everything,
and nothing leads from there to the step that a choice among functions needs: the name that stands a few tokens *after* the word that
was asked for ("the ferry.\\ntype get_ferry = ", then "the ferry: call "). Many million tokens did not find it.

So before the stage of many calls the heads of the third layer are set to look three to six tokens back, whatever stands there, and two
of the fourth to look for the place four (six) tokens after the word that stands three (five) before the present one, and to say what is
there. What they read is fitted to the network as it is, by least squares over generated documents. Only a start: all of it is trained,
and while it is, `aims` says where the fourth layer's heads should look when a call is decided."""
import json
import random

import torch

import bpe
import data
import model as M

DOCUMENTS = 48
CONTENT = 32  # directions in which words are told apart
BACK, MATCHED = (3, 4, 5, 6), ((0, 0, 1), (2, 2, 3))  # the looks back; head, its query's look, its keys' look
NAME_HEADS, KEY_HEAD, VALUE_HEAD = (0, 2), 1, 3
LOUD, SHARP, SAID = 1.0, 1.5, 0.15


def fit(x, y, penalty=1e-3):
    """The matrix that takes rows of x nearest to those of y."""
    x, y = x.double(), y.double()
    return torch.linalg.solve(x.T @ x + penalty * len(x) * torch.eye(x.shape[1], dtype=torch.double), x.T @ y).float()


@torch.no_grad()
def seen(net, documents):
    """What the upper layers' attention reads and, on average, writes; the tokens."""
    reads, writes, tokens, plain = ([], []), ([], []), [], net.attention
    for ids in documents:
        got = []

        def listen(b, x, *rest):
            got.append((x[0], plain(b, x, *rest)))
            return got[-1][1]
        net.attention = listen
        net(torch.tensor([ids]), torch.arange(len(ids))[None], torch.tensor([0]))
        for i in (0, 1):
            reads[i].append(got[2 + i][0])
            writes[i].append(got[2 + i][1][0])
        tokens += ids
    del net.attention
    return torch.cat(reads[0]), torch.cat(reads[1]), [torch.cat(w).mean(0) for w in writes], torch.tensor(tokens)


@torch.no_grad()
def look_aside(net, opt, tok, seed):
    s, g, rng = net.shape, torch.Generator().manual_seed(seed), random.Random("house-heads-%d" % seed)
    hd, half = s["head_dim"], s["head_dim"] // 2
    documents = [tok.encode_document(data.tools(rng, n_functions=4) if i % 2 else data.errands(rng))[0][:768] for i in range(DOCUMENTS)]
    third, fourth = net.blocks[2:4]
    x, y, usual, tokens = seen(net, documents)
    for b, mean in zip((third, fourth), usual):
        b.attn_norm.fill_(1)
        for bias in (b.qb, b.kb, b.vb, b.sinks):
            bias.zero_()
        b.ob.copy_(mean)
        for w in (b.q, b.k, b.v, b.o):
            w.copy_(torch.randn(w.shape, generator=g) * 0.01)
    inv = M.yarn(s)[0]
    fast, slow = torch.arange(8), torch.cat((torch.arange(half // 2, half), torch.arange(half // 2, half) + half))
    normed = lambda x: M.norm(x, 1.0, s["eps"])
    # What stands somewhere: its embedding's share in some directions. Where it is put: where the fourth layer's input moves least.
    some = torch.linalg.qr(torch.randn(s["d"], CONTENT, generator=g))[0]
    content = net.embed[tokens] @ some
    content = (content - content.mean(0)) / content.std()
    quiet = torch.linalg.eigh(y.T @ y)[1][:, :len(BACK) * CONTENT].reshape(s["d"], CONTENT, len(BACK))
    for h, back in enumerate(BACK):
        third.qb[h * hd + fast] = 4.0 * torch.cos(inv[fast] * back).float()
        third.qb[h * hd + half + fast] = -4.0 * torch.sin(inv[fast] * back).float()
        third.o[:, h * hd:h * hd + CONTENT] = LOUD * quiet[:, :, h]
    for kv in range(s["kv_heads"]):
        third.kb[kv * hd + fast] = 4.0
        third.v[kv * hd:kv * hd + CONTENT] = fit(normed(x), content).T
    _, y, _, _ = seen(net, documents)
    # What is said: the head's row of a token, as far as 64 directions tell rows apart.
    rows = net.head - net.head.mean(0)
    apart = torch.linalg.eigh(rows.T @ rows)[1][:, -hd:]
    said = fit(normed(y), rows[tokens] @ apart / rows.norm(dim=-1).mean())
    looks = [fit(normed(y)[back:], content[:-back]) for back in BACK]
    for h, query, key in MATCHED:
        kv = h * s["kv_heads"] // s["heads"]
        fourth.q[h * hd + slow] += SHARP * looks[query].T
        fourth.k[kv * hd + slow] += SHARP * looks[key].T
        fourth.v[kv * hd:(kv + 1) * hd] += said.T
        fourth.o[:, h * hd:(h + 1) * hd] += apart * SAID * y.norm(dim=-1).mean()
        fourth.sinks[h] = 2.0
    for name, p, _, state in opt.items:
        if name.startswith(("blocks.2.", "blocks.3.")) and name.split(".")[2] in ("q", "k", "v", "o", "qb", "kb", "vb", "ob", "sinks", "attn_norm"):
            for m in state.values():
                if m is not None:
                    m.zero_()


def places(ids, part, low, high):
    """Where part begins in ids[low:high]."""
    out, i = [], low
    while part and part[0] in ids[i:high]:
        i = ids.index(part[0], i, high)
        if ids[i:i + len(part)] == part:
            out.append(i)
        i += 1
    return out


def aims(tok, document, ids):
    """Where the fourth layer should look while a call is decided: (row, key, head). One head is for the first token of a name in a thought and another for
    the rest; one for the keys of arguments, and one for their types and for the values in what was said."""
    out, at, there = [], 0, None
    for text, want in document:
        n = len(tok.encode(text))
        if want == data.NAME_WEIGHT and text.startswith(" ") and text[1:2].isalpha():
            name = tok.encode(text[1:])
            found = places(ids, tok.encode("type" + text), 0, at)
            there = found[0] if found else None
            if found:
                k = there + len(tok.encode("type" + text)) - len(name)
                out += [(at + n - len(name) - 1 + i, k + i, NAME_HEADS[i > 0]) for i in range(len(name))]
        elif want == data.ARGUMENTS_WEIGHT and there is not None:
            end = 1
            for key, value in json.loads(text).items():
                begin = text.index('"' + key + '":', end) + 1
                name, said = tok.encode(key), tok.encode(str(value))
                row = at + len(tok.encode(text[:begin])) - 1
                declared = [p for p in places(ids, name, there, min(at, there + 250)) if tok.tokens[ids[p + len(name)]] in (":", "?:")]
                if declared:
                    kind = declared[0] + len(name) + 1
                    kind += tok.tokens[ids[kind]] == bpe.BYTE_CHAR[32]
                    out += [(row + i, declared[0] + i, KEY_HEAD) for i in range(len(name))] + [(row + len(name), kind, VALUE_HEAD)]
                end = begin + len(key) + (3 if isinstance(value, str) else 2)
                row = at + len(tok.encode(text[:end])) - 1
                spoken = places(ids, said, there + 1, at)
                if spoken:
                    out += [(row + i, spoken[-1] + i, VALUE_HEAD) for i in range(len(said))]
        at += n
    return [a for a in out if a[1] <= a[0]]
