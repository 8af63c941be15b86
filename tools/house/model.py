"""The house model in torch: GPT-OSS's architecture at a small size, and the rounding its file uses.

Matrix products run in bfloat16 (oneDNN is ~100 times faster at them than Debian's reference BLAS at
float32); everything between them is float32. Source of the architecture: OpenAI's gpt-oss reference model
(sinks, YaRN without rounded bounds, top-k then softmax, clamped SwiGLU with alpha 1.702 and u + 1).
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

SHAPE = dict(vocab=2048, d=192, layers=4, heads=4, kv_heads=2, head_dim=64, experts=8, used=2, ff=192,
             window=128, context=4096, rope_base=10000.0, yarn_factor=8.0, original_context=512, beta_fast=32.0, beta_slow=1.0,
             eps=1e-5, alpha=1.702, limit=7.0)


def yarn(shape):
    """inverse frequencies [head_dim/2] in float64, and the factor on cos and sin."""
    half = shape["head_dim"] // 2
    freq = shape["rope_base"] ** (torch.arange(half, dtype=torch.float64) * 2 / shape["head_dim"])
    bound = lambda beta: half * math.log(shape["original_context"] / (beta * 2 * math.pi)) / math.log(shape["rope_base"])
    low, high = bound(shape["beta_fast"]), bound(shape["beta_slow"])
    keep = 1 - ((torch.arange(half, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    return (1 - keep) / (shape["yarn_factor"] * freq) + keep / freq, 0.1 * math.log(shape["yarn_factor"]) + 1


# ── rounding ─────────────────────────────────────────────────────────────

FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def round_mxfp4(w):
    """Nearest MXFP4 values, blocks of 32 along the last axis; of two exponents the one with less error."""
    b = w.detach().float().reshape(-1, 32)
    top = b.abs().amax(1, keepdim=True).clamp_min(1e-30)
    e = torch.floor(torch.log2(top)) - 2
    best = err = None
    for shift in (0, 1):
        s = torch.exp2(e + shift)
        m = (b / s).abs().clamp_max(6.0)
        # The grid's step is 0.5 below 2, 1 below 4 and 2 above.
        q = torch.where(m < 2, torch.round(m * 2) / 2, torch.where(m < 4, torch.round(m), torch.round(m / 2) * 2)) * b.sign() * s
        d = (q - b).square().sum(1, keepdim=True)
        if best is None:
            best, err = q, d
        else:
            best = torch.where(d < err, q, best)
    return best.reshape(w.shape)


def round_q8_0(w):
    """Nearest Q8_0 values: a float16 scale for 32 signed bytes."""
    b = w.detach().float().reshape(-1, 32)
    d = b.abs().amax(1, keepdim=True) / 127
    q = torch.where(d > 0, torch.round(b / d.clamp_min(1e-30)), torch.zeros_like(b))
    return (q * d.half().float()).reshape(w.shape)


class Through(torch.autograd.Function):
    """Straight-through: the rounded weight forwards, the gradient goes to the unrounded one."""

    @staticmethod
    def forward(ctx, w, rounded):
        return rounded

    @staticmethod
    def backward(ctx, g):
        return g, None


class Gather(torch.autograd.Function):
    """Rows in expert order. `back` undoes `order`; each token appears `used` times."""

    @staticmethod
    def forward(ctx, x, token, back, used):
        ctx.save_for_backward(back)
        ctx.used = used
        return x.index_select(0, token)

    @staticmethod
    def backward(ctx, g):
        (back,) = ctx.saved_tensors
        return g.index_select(0, back).view(-1, ctx.used, g.shape[1]).sum(1), None, None, None


class Permute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, order, back):
        ctx.save_for_backward(order)
        return x.index_select(0, back)

    @staticmethod
    def backward(ctx, g):
        (order,) = ctx.saved_tensors
        return g.index_select(0, order), None, None


def norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


class House(nn.Module):
    def __init__(self, shape, seed=0):
        super().__init__()
        self.shape = s = dict(shape)
        g = torch.Generator().manual_seed(seed)
        P = lambda *size, std: nn.Parameter(torch.randn(*size, generator=g) * std)
        zeros = lambda *size: nn.Parameter(torch.zeros(*size))
        ones = lambda *size: nn.Parameter(torch.ones(*size))
        d, q, kv, E, ff = s["d"], s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"], s["experts"], s["ff"]
        self.embed = P(s["vocab"], d, std=0.5)
        self.blocks = nn.ModuleList()
        for _ in range(s["layers"]):
            b = nn.Module()
            b.attn_norm, b.mlp_norm = ones(d), ones(d)
            b.q, b.k, b.v = P(q, d, std=d ** -0.5), P(kv, d, std=d ** -0.5), P(kv, d, std=d ** -0.5)
            b.o = P(d, q, std=q ** -0.5 * 0.3)
            b.qb, b.kb, b.vb, b.ob = zeros(q), zeros(kv), zeros(kv), zeros(d)
            b.sinks = zeros(s["heads"])
            b.router, b.router_b = P(E, d, std=d ** -0.5), zeros(E)
            b.gate, b.up = P(E, ff, d, std=d ** -0.5), P(E, ff, d, std=d ** -0.5)
            b.down = P(E, d, ff, std=ff ** -0.5 * 0.3)
            b.gate_b, b.up_b, b.down_b = zeros(E, ff), zeros(E, ff), zeros(E, d)
            self.blocks.append(b)
        self.out_norm = ones(d)
        self.head = P(s["vocab"], d, std=0.02)
        inv, factor = yarn(s)
        angle = torch.outer(torch.arange(s["context"], dtype=torch.float64), inv)
        self.register_buffer("cos", (angle.cos() * factor).float(), persistent=False)
        self.register_buffer("sin", (angle.sin() * factor).float(), persistent=False)
        self.look_back(g)
        self.rounding = False
        self.exact = False  # float32 matrix products, for evaluation

    @torch.no_grad()
    def look_back(self, g):
        """A start from which copying is learned at once; from random weights it had not appeared after two million tokens.
        In each pair of layers the first gets heads that look one and two tokens back, whatever stands there; the second a
        head that looks for the place where the token before was the present one ("induction"). Only a start: all of it is trained."""
        s = self.shape
        hd, n = s["head_dim"], s["head_dim"] // 2
        inv = yarn(s)[0]
        basis = lambda: torch.linalg.qr(torch.randn(s["d"], n, generator=g))[0]  # [d, n], orthonormal columns
        fast = torch.arange(8)  # of the rotary pairs: these turn quickly enough to tell neighbours apart
        slow = torch.cat((torch.arange(n // 2, n), torch.arange(n // 2, n) + n))  # these hardly turn: content
        for first, second in zip(self.blocks[0::2], self.blocks[1::2]):
            b, read, put = first, basis(), basis()
            b.k[:hd] *= 0.1
            b.kb[fast] = 4.0
            for head, back in ((0, 1), (1, 2)):
                b.q[head * hd:(head + 1) * hd] *= 0.1
                b.qb[head * hd + fast] = 4.0 * torch.cos(inv[fast] * back).float()
                b.qb[head * hd + n + fast] = -4.0 * torch.sin(inv[fast] * back).float()
            b.v[:n] = read.T
            b.o[:, :n] = put
            b = second
            b.k[:hd] *= 0.1
            b.q[:hd] *= 0.1
            b.k[slow] = put.T * 1.2
            b.q[slow] = read.T * 1.2
            echo = torch.linalg.qr(torch.randn(s["d"], hd, generator=g))[0]
            b.v[:hd] = echo.T
            b.o[:, :hd] = echo * 2
        self.head += 0.1 * self.embed  # what is read there can be said

    # Which tensors the file stores in which type.
    def kind(self, name):
        last = name.split(".")[-1]
        if last in ("gate", "up", "down"):
            return "MXFP4"
        if last in ("embed", "head", "q", "k", "v", "o"):
            return "Q8_0"
        return "F32"

    def weight(self, w, kind):
        if self.rounding:
            w = Through.apply(w, round_mxfp4(w) if kind == "MXFP4" else round_q8_0(w))
        return w if self.exact else w.bfloat16()

    def cast(self, x):
        return x if self.exact else x.bfloat16()

    def rotate(self, x, cos, sin):
        """x [B,T,H,hd]; pairs are halves."""
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def attention(self, b, x, cos, sin, mask, aim=None):
        s = self.shape
        B, T, d = x.shape
        H, K, hd = s["heads"], s["kv_heads"], s["head_dim"]
        h = self.cast(norm(x, b.attn_norm, s["eps"]))
        proj = lambda w, bias: (F.linear(h, self.weight(w, "Q8_0")).float() + bias).view(B, T, -1, hd)
        q = self.cast(self.rotate(proj(b.q, b.qb), cos, sin) * hd ** -0.5)
        k = self.cast(self.rotate(proj(b.k, b.kb), cos, sin))
        v = self.cast(proj(b.v, b.vb))
        # Queries of one KV head lie together. A last key of zeros carries the sink and has no value.
        q = q.view(B, T, K, H // K, hd).permute(0, 2, 3, 1, 4).reshape(B * K, H // K * T, hd)
        k = F.pad(k.permute(0, 2, 1, 3), (0, 0, 0, 1)).reshape(B * K, T + 1, hd)
        v = F.pad(v.permute(0, 2, 1, 3), (0, 0, 0, 1)).reshape(B * K, T + 1, hd)
        a = torch.bmm(q, k.transpose(1, 2)).view(B, H, T, T + 1)
        a = a + mask
        a[..., -1] += self.cast(b.sinks).view(1, H, 1)
        if aim is not None and len(aim):  # how surely it looks where it should
            n, row, key, head = aim.unbind(1)
            self.missed = F.cross_entropy(a[n, head, row].float(), key)
        a = torch.softmax(a, -1).view(B * K, H // K * T, T + 1)
        y = torch.bmm(a, v).view(B, H, T, hd).transpose(1, 2).reshape(B, T, H * hd)
        return F.linear(y, self.weight(b.o, "Q8_0")).float() + b.ob

    def mlp(self, b, x):
        s = self.shape
        E, used = s["experts"], s["used"]
        h = norm(x, b.mlp_norm, s["eps"])
        logits = F.linear(h, b.router) + b.router_b
        top, chosen = logits.topk(used, -1)
        share = torch.softmax(top, -1)
        flat = chosen.reshape(-1)
        order = torch.argsort(flat, stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel())
        counts = torch.bincount(flat, minlength=E)
        rows = Gather.apply(self.cast(h), order // used, back, used).split(counts.tolist())
        gate, up, down = (self.weight(w, "MXFP4") for w in (b.gate, b.up, b.down))
        out = []
        for e in range(E):
            g = (F.linear(rows[e], gate[e]).float() + b.gate_b[e]).clamp(max=s["limit"])
            u = (F.linear(rows[e], up[e]).float() + b.up_b[e]).clamp(-s["limit"], s["limit"])
            a = g * torch.sigmoid(s["alpha"] * g) * (u + 1)
            out.append(F.linear(self.cast(a), down[e]).float() + b.down_b[e])
        y = Permute.apply(torch.cat(out), order, back).view(-1, used, s["d"])
        y = (y * share.unsqueeze(-1)).sum(1)
        # Load balance, as in the Switch Transformer: share of tokens times mean probability.
        balance = E * (counts.float() / flat.numel() * torch.softmax(logits, -1).mean(0)).sum()
        return y, balance

    def forward(self, ids, pos, want=None, aim=None):
        """ids, pos [B,T]; want: indices into the flattened [B*T] rows whose logits are needed; aim [N,4]: document, row, key and head of
        the last layer: where it should look, for the loss `missed`."""
        self.missed = None
        s = self.shape
        B, T = ids.shape
        x = F.embedding(ids, Through.apply(self.embed, round_q8_0(self.embed)) if self.rounding else self.embed)
        cos, sin = self.cos[pos].unsqueeze(2), self.sin[pos].unsqueeze(2)
        away = pos.unsqueeze(2) - pos.unsqueeze(1)  # [B,T,T]
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        dtype = torch.float32 if self.exact else torch.bfloat16
        masks = []
        for seen in ((causal & (away < s["window"])), causal.expand(B, T, T)):
            m = torch.zeros(B, 1, T, T + 1, dtype=dtype)
            m[..., :-1].masked_fill_(~seen.unsqueeze(1), float("-inf"))
            masks.append(m)
        balance = 0.0
        for i, b in enumerate(self.blocks):
            x = x + (self.attention(b, x, cos, sin, masks[i % 2], aim) if aim is not None and i + 1 == s["layers"] else self.attention(b, x, cos, sin, masks[i % 2]))
            y, load = self.mlp(b, x.view(-1, s["d"]))
            x = x + y.view(B, T, -1)
            balance = balance + load
        x = x.reshape(-1, s["d"])
        if want is not None:
            x = x.index_select(0, want)
        x = norm(x, self.out_norm, s["eps"])
        return F.linear(self.cast(x), self.weight(self.head, "Q8_0")).float(), balance / s["layers"]
