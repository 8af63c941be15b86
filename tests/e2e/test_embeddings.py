#!/usr/bin/env python3
"""/v1/embeddings and /v1/rerank: vectors equal to the float64 reference's pooled
hidden states, the same bytes in any company, and errors that name the input."""
import base64, os, struct, sys

from oriel import ROOT, Server, debian_modules, run_all, test

debian_modules("numpy")
import numpy as np

sys.path.insert(0, os.path.join(ROOT, "tools", "ref"))
import forward

HOUSE = os.path.join(ROOT, "models", "oriel-house.gguf")
TEXTS = ["The capital of France is Paris.", "A dog.", "Once upon a time there was a small bird who liked to sing. " * 12, "x"]


def embed(s, inputs, **more):
    a = s.post("/v1/embeddings", {"model": "default", "input": inputs, "encoding_format": "base64", **more})
    assert [d["index"] for d in a["data"]] == list(range(len(a["data"])))
    return [base64.b64decode(d["embedding"]) for d in a["data"]]


def unit(v):
    return v / np.linalg.norm(v)


@test
def vectors_are_the_references():
    """With float activations: int8 ones now and then choose another expert than the reference does."""
    ref = forward.Model(HOUSE)
    with Server("--f32-activations", "--kv-type", "f32") as s:
        for text in TEXTS:
            ids = s.post("/tokenize", {"content": text, "parse_special": False})["tokens"]
            hidden = ref.hidden(ids)
            for pooling, want in (("mean", unit(hidden.mean(0))), ("last", unit(hidden[-1]))):
                got = np.frombuffer(embed(s, text, pooling=pooling)[0], np.float32)
                assert abs(np.linalg.norm(got) - 1) < 1e-5
                cos = float(got @ want)
                assert cos > 0.99999, (pooling, text[:20], cos)
            assert embed(s, [ids]) == embed(s, text) == embed(s, ids)


@test
def company_and_chunks_change_no_byte():
    alone = []
    with Server("--threads", 1, "--chunk", 7, "--parallel", 1) as s:
        for text in TEXTS:
            alone += embed(s, text)
    with Server("--threads", 2, "--parallel", 4) as s:
        assert embed(s, TEXTS) == alone
        assert embed(s, TEXTS * 5) == alone * 5, "more inputs than places"
        assert embed(s, TEXTS[2]) == alone[2:3], "a second time, with its prefix in the cache"
        short = [np.frombuffer(v, np.float32) for v in embed(s, TEXTS, dimensions=8)]
        for v, whole in zip(short, alone):
            assert len(v) == 8 and np.allclose(v, unit(np.frombuffer(whole, np.float32)[:8]), atol=1e-6)
        plain = s.post("/v1/embeddings", {"model": "default", "input": TEXTS[1]})["data"][0]["embedding"]
        assert struct.pack(f"<{len(plain)}f", *plain) == alone[1]


@test
def documents_are_ranked_by_cosine():
    with Server() as s:
        docs = ["Paris is the capital of France.", "A dog barks.", {"text": "The capital of Spain is Madrid."}]
        a = s.post("/v1/rerank", {"model": "default", "query": "capital", "documents": docs, "return_documents": True})
        scores = [r["relevance_score"] for r in a["results"]]
        assert scores == sorted(scores, reverse=True) and sorted(r["index"] for r in a["results"]) == [0, 1, 2]
        q, *vs = (np.frombuffer(v, np.float32).astype(float) for v in embed(s, ["capital"] + [d if isinstance(d, str) else d["text"] for d in docs]))
        for r in a["results"]:
            assert abs(r["relevance_score"] - (1 + q @ vs[r["index"]]) / 2) < 1e-6
            assert r["document"]["text"] in (docs[0], docs[1], docs[2]["text"])
        assert len(s.post("/rerank", {"query": "capital", "documents": docs, "top_n": 1})["results"]) == 1
        assert s.post("/v1/rerank", {"query": "a", "documents": [5]}, want=400)["error"]["param"] == "documents[0]"
        assert s.post("/v1/rerank", {"query": "a", "documents": []}, want=400)["error"]["param"] == "documents"
        assert s.post("/v1/rerank", {"documents": ["a"]}, want=400)["error"]["param"] == "query"


@test
def wrong_inputs_are_named():
    with Server("--ctx", 256) as s:
        for more, param in [({"input": ""}, "input"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input[1]"), ({"input": [1, 10**9]}, "input"),
                            ({"input": [[1], []]}, "input[1]"), ({"input": {"a": 1}}, "input"), ({"input": ["a", 5]}, "input[1]"),
                            ({"dimensions": 0}, "dimensions"), ({"dimensions": 10**5}, "dimensions"), ({"encoding_format": "int8"}, "encoding_format"),
                            ({"input": "word " * 2000}, "input"), ({"input": ["a", "word " * 2000]}, "input[1]"), ({"input": ["a"] * 2049}, "input"), ({"pooling": "max"}, "pooling")]:
            e = s.post("/v1/embeddings", {"model": "default", "input": "a", **more}, want=400)["error"]
            assert e["param"] == param, (str(more)[:60], e)
        assert s.post("/v1/embeddings", {"model": "x", "input": "a"}, want=404)["error"]["code"] == "model_not_found"


run_all()
