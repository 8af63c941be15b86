#!/usr/bin/env python3
"""/tokenize, /detokenize and /props agree with the command line and with what
a chat really sends."""
import json, re

from oriel import Server, run_all, run_json, test

TEXTS = ["Hello, world!", "  spaces\n\nand lines ", "Zażółć gęślą jaźń 日本語 🙂", "", "<|end|> is only text"]


@test
def ids_and_text_go_both_ways():
    with Server() as s:
        for text in TEXTS:
            got = s.post("/tokenize", {"content": text, "parse_special": False})
            assert got["count"] == len(got["tokens"])
            assert s.post("/detokenize", {"tokens": got["tokens"]})["content"] == text
            assert s.post("/tokenize", {"prompt": text, "parse_special": False})["tokens"] == got["tokens"]
            pieces = s.post("/tokenize", {"content": text, "with_pieces": True, "parse_special": False})["tokens"]
            assert [p["id"] for p in pieces] == got["tokens"]
            raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
            assert raw.decode() == text
        assert s.post("/tokenize", {"content": TEXTS[0]})["tokens"] == run_json("tokenize", TEXTS[0])["ids"]
        assert len(s.post("/tokenize", {"content": "<|end|>"})["tokens"]) == 1
        assert len(s.post("/tokenize", {"content": "<|end|>", "parse_special": False})["tokens"]) > 1


@test
def tokens_with_logprobs_join_to_the_text():
    """Also where a control token is said, which the text does not show."""
    with Server() as s:
        end = s.post("/tokenize", {"content": "<|end|>"})["tokens"][0]
        for echo in (False, True):
            for bias in ({}, {str(end): 100}, {str(end): 12}):
                asked = {"model": "default", "prompt": "One day a fox", "max_tokens": 6, "temperature": 0, "logprobs": 2, "echo": echo, "logit_bias": bias}
                choice = s.post("/v1/completions", asked)["choices"][0]
                l = choice["logprobs"]
                assert "".join(l["tokens"]) == choice["text"], choice
                at = 0
                for token, offset in zip(l["tokens"], l["text_offset"], strict=True):
                    assert offset == at, choice
                    at += len(token)
                if bias.get(str(end)) == 100:
                    assert "<|end|>" not in choice["text"] and all("<|end|>" in t for t in l["top_logprobs"][-6:]), choice


@test
def every_alternative_has_a_name_of_its_own():
    """Also tokens that are no text by themselves: two of them are two members, not one name twice."""
    with Server() as s:
        asked = {"model": "default", "prompt": "日本語 日日日", "max_tokens": 0, "echo": True, "logprobs": 5}
        status, _, data = s.request("POST", "/v1/completions", asked)
        assert status == 200, data
        def unique(pairs):
            assert len({k for k, _ in pairs}) == len(pairs), pairs
            return dict(pairs)
        l = json.loads(data, object_pairs_hook=unique)["choices"][0]["logprobs"]
        others = set()
        for token, logprob, top in list(zip(l["tokens"], l["token_logprobs"], l["top_logprobs"], strict=True))[1:]:
            assert len(top) in (5, 6) and top[token] == logprob, (token, logprob, top)
            others |= set(top) - {token}
        assert any(re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", o) for o in others) and not any("\ufffd" in o for o in others), others


@test
def a_conversation_counts_as_it_is_sent():
    with Server() as s:
        messages = [{"role": "user", "content": "Hello"}]
        used = s.post("/v1/chat/completions", {"model": "default", "messages": messages, "max_tokens": 1})["usage"]["prompt_tokens"]
        assert s.post("/tokenize", {"messages": messages})["count"] == used


@test
def wrong_requests_name_the_parameter():
    with Server() as s:
        for path, body, param in [("/tokenize", {}, "content"), ("/tokenize", {"content": 1}, "content"), ("/detokenize", {}, "tokens"),
                                  ("/detokenize", {"tokens": ["a"]}, "tokens[0]"), ("/detokenize", {"tokens": [1, 10**9]}, "tokens[1]"),
                                  ("/detokenize", {"tokens": [-1]}, "tokens[0]"), ("/tokenize", {"messages": []}, "messages")]:
            assert s.post(path, body, want=400)["error"]["param"] == param, (path, body)
        assert s.post("/tokenize", {"content": "a", "model": "no"}, want=404)["error"]["code"] == "model_not_found"


@test
def props_tell_the_plan():
    with Server("--ctx", 2048, "--parallel", 3) as s:
        p = s.get("/props")
        assert p["total_slots"] == 3 and p["default_generation_settings"]["n_ctx"] == 2048 and p["chat_template"]


run_all()
