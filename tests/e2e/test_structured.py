#!/usr/bin/env python3
"""What the masks let through, held against a validator that is not ours: Debian's python3-jsonschema.
Random walks without a model, and samples of a model that says anything at all."""
import json, os, subprocess, tempfile

from oriel import BUILD, CORPUS, SANITIZED, Skip, run_all, test

# Formats are enforced while generating; the validator leaves them alone, as the specification allows.


def validator(schema):
    try:
        import jsonschema
    except ImportError:
        raise Skip("python3-jsonschema is not installed")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return kind(schema)


def check_lines(path, least):
    made, n, bad = {}, 0, []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            one = json.loads(line)
            key = json.dumps(one["schema"])
            if key not in made:
                made[key] = validator(one["schema"])
            n += 1
            if not made[key].is_valid(json.loads(one["text"])):
                bad.append(one["name"][:80] + ": " + one["text"][:300])
    print(f"# {n} texts of {len(made)} schemas, {len(bad)} not valid")
    assert not bad, "\n".join(bad[:10])
    assert n >= least, n


def run_unit(name, **env):
    program = os.path.join(BUILD, "tests/unit", name)
    if not os.path.exists(program):
        raise Skip(f"{name} is not built")
    subprocess.run([program], env=dict(os.environ, **env), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=580)


@test
def random_walks_are_valid():
    if not CORPUS:
        raise Skip("ORIEL_CORPUS is not set")
    if SANITIZED:
        raise Skip("the ordinary build walks")
    validator({})
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "walks.jsonl")
        run_unit("sample/test_grammar_walk", ORIEL_WALK_OUT=out)
        check_lines(out, 1000)


@test
def samples_of_a_random_model_are_valid():
    if SANITIZED:
        raise Skip("the ordinary build samples")
    validator({})
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "samples.jsonl")
        run_unit("engine/test_constrain", ORIEL_SAMPLES="2000", ORIEL_SAMPLE_OUT=out)
        check_lines(out, 2000)


run_all()
