"""Generates the training documents: everything the house model has ever seen comes from here.

A document is a list of (text, weight) pieces, the weight being what a piece counts in the loss. `document(rng)`
draws one; the same random.Random state gives the same bytes. With held=True the wordings, names and made-up words reserved for the
evaluation are used instead of the training ones, so that copying and paraphrase are measured, not memory.

Two kinds of answer: facts always end in the same sentence, so that no sampling temperature makes them wrong; everything else,
thoughts above all, has many wordings. "[a|b|c]" in a template is one of the three.
"""
import json
import random
import re
import zlib

import harmony as H
import stories
from words import *

CHOICE = re.compile(r"\[([^\[\]]*)\]")


def pick(rng, seq):
    return seq[int(rng.random() * len(seq))]


def chance(rng, p):
    return rng.random() < p


def between(rng, a, b):
    return a + int(rng.random() * (b - a + 1))


def cap(s):
    return s[:1].upper() + s[1:]


def say(rng, template, **k):
    """One wording of a template."""
    return CHOICE.sub(lambda m: pick(rng, m[1].split("|")), template).format(**k)


def made_up(rng, held=False, low=1, high=3):
    """A word nobody has seen; training and evaluation never share one."""
    while True:
        w = "".join(pick(rng, ONSETS) + pick(rng, VOWELS) + pick(rng, CODAS) for _ in range(between(rng, low, high)))
        if chance(rng, 0.15):
            w = "".join(pick(rng, "abcdefghijklmnopqrstuvwxyz") for _ in range(between(rng, 3, 7)))
        if len(w) > 2 and (zlib.crc32(w.encode()) % 8 == 0) == held:
            return w


def rough(rng, text):
    """People type without capitals, stops and care."""
    r = rng.random()
    if r < 0.12:
        text = text.lower()
    elif r < 0.16:
        text = text.rstrip("?.!")
    elif r < 0.22:
        text = text.lower().rstrip("?.!")
    elif r < 0.24:
        text = text.upper()
    if chance(rng, 0.05):
        text = pick(rng, ["Please: ", "Hi! ", "Hello, ", "OK. ", "So, "]) + text
    if chance(rng, 0.03):
        text += pick(rng, [" Thanks!", " Please.", " :)", "\n", " Thank you."])
    return text


# Each skill returns (question, effort → analysis, answer).

# Parts of thoughts.
WHO = "[The user|The user|The user|The person|Somebody|The human]"
SURE = "[I know it.|I know this one.|That is easy.|This is a fact I know.|I remember it.|No need to look it up.]"
BRIEF = "[I answer in one sentence.|I keep it short.|One sentence is enough.|A short answer will do.|I just say it.|I answer directly.]"


def think(rng, short, medium, more=BRIEF, **k):
    """Thoughts of three lengths: a few words, a sentence, and more."""
    body = say(rng, medium, **k)
    return {"low": say(rng, short, **k), "medium": body if chance(rng, 0.7) else body + " " + say(rng, SURE if "fact" in k else BRIEF),
            "high": body + " " + say(rng, more, **k) + (" " + say(rng, BRIEF) if chance(rng, 0.4) else "")}


GREETINGS = "Hello|Hi|Hey|Hello there|Hi there|Good morning|Good evening|Good afternoon|Hey there|Greetings|Hello oriel|Hi oriel|Howdy".split("|")
HELD_GREETINGS = "Hiya|Hello friend|Good day".split("|")
WELCOME = "[How can I help you?|How can I help you today?|What can I do for you?|What would you like to know?|How may I help?|Ask me anything small.|What shall we do?]"
HELLO = "[Hello!|Hi!|Hello there!|Hi there!|Good to see you!|Welcome!|Hello, nice to meet you!|Greetings!]"
ME = "[I am oriel's house model, a small language model trained by the oriel project.|I am the house model of oriel, a very small language model.|I am oriel's small house model. I run on your own machine.|My name is oriel's house model. I am a tiny language model.]"


def able(rng):
    """'I can …, … and …' without saying a thing twice."""
    groups = [["name capitals", "tell you the capital of a country", "name the capital of a country"], ["name colours and opposites", "name colours", "name opposites"],
              ["do small sums", "work out small sums", "add small numbers"], ["tell short stories", "tell a short story", "tell a story about an animal"],
              ["call tools", "call your functions"], ["count to twenty", "repeat your words", "remember your name"]]
    some = sorted(groups, key=lambda _: rng.random())[:3]
    return "I can %s, %s and %s." % tuple(pick(rng, g) for g in some)


def cannot(rng, kind):
    head = {"question": "[I do not know that.|I cannot do that.|That is too hard for me.|I am a very small model and do not know that.|Sorry, I do not know.|I am too small for that.|That is beyond me, I am a very small model.|I have no answer to that.]",
            "language": "[I only speak English.|Sorry, I speak English only.|English is my only language.|I understand only English.]",
            "code": "[I cannot work with code.|Sorry, I do not know code.|Code is too hard for me.|I am too small a model for code.]",
            "noise": "[I do not understand that.|Sorry, I did not understand.|That makes no sense to me.|I cannot read that.|Could you say that in other words?]"}[kind]
    return say(rng, head) + " " + able(rng)


def greet(rng, held):
    r = rng.random()
    if r < 0.45:
        g = pick(rng, HELD_GREETINGS if held else GREETINGS)
        q = g + pick(rng, ["", "!", ".", ", how are you?", "! How are you?"])
        t = think(rng, "[Greeting.|A greeting.|Hello.|A hello.]", WHO + " [greets me.|says hello.|is greeting me.|starts with a greeting.]", "[I greet back.|I say hello too.|I answer kindly.|A friendly answer fits.]")
        if "how" in q.lower():
            return q, t, say(rng, "[Hello!|Hi!|Hello there!] [I am well, thank you.|I am fine, thanks.|All is well here.|Very well, thank you!] " + WELCOME)
        return q, t, say(rng, HELLO + " " + WELCOME)
    if r < 0.60:
        name = pick(rng, HELD_NAMES if held else NAMES) if chance(rng, 0.3) else cap(made_up(rng, held))
        q = pick(rng, ["My name is {}.", "I am {}.", "Hi, I am {}.", "Hello, my name is {}!", "Call me {}.", "{} is my name.", "You can call me {}."]).format(name)
        return (q, think(rng, "[A name.|{n}.|The name is {n}.]", WHO + " [is called {n}.|has the name {n}.|says the name {n}.]", "[I greet {n} by name.|I use the name.|I say hello to {n}.]", n=name),
                say(rng, "[Hello|Hi|Nice to meet you|Welcome], {n}! " + WELCOME, n=name))
    table = [
        (["How are you?", "How are you today?", "How do you do?", "How is it going?", "Are you well?"], "Greeting", "asks how I am",
         "[I am well, thank you.|I am fine, thanks.|Very well, thank you!|All is well here.] " + WELCOME),
        (["Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Are you ChatGPT?", "Are you a human?",
          "Which model is this?", "Tell me about yourself."], "About me", "asks who I am", ME),
        (["What can you do?", "How can you help me?", "Help", "Help me.", "What do you know?", "What are you good at?", "I need help."],
         "About me", "asks what I can do", "able"),
        (["Thank you!", "Thanks.", "Thank you very much.", "Great, thanks!", "That was helpful."], "Thanks", "thanks me",
         "[You are welcome!|My pleasure!|Gladly!|You are very welcome!|No problem!] [Is there anything else?|Ask me more.|Anything else?|I am here if you need more.]"),
        (["Goodbye!", "Bye.", "See you later.", "Good night.", "Bye bye!"], "Goodbye", "leaves", "[Goodbye!|Bye!|See you!|Farewell!] [Have a nice day.|Until next time.|Take care.|Come back soon.]"),
        (["Nice to meet you.", "I like you.", "You are nice.", "Well done!", "Good job."], "Kind words", "is kind", "[Thank you!|Thanks a lot!|Oh, thank you!] [That is kind of you.|How kind.|You are kind.|I am glad.]"),
        (["Hello, who are you?", "Hi, what are you?"], "About me", "asks who I am", "[Hello!|Hi!] " + ME),
        (["Test", "Testing", "test 123", "Is this working?", "Are you there?", "ping", "test"], "A test", "tests me",
         "[I am here and it works.|It works!|Yes, I am here.|The test worked.] " + WELCOME),
        (["Ok", "Yes", "No", "Maybe", "Cool", "I see.", "Really?"], "Small talk", "makes small talk",
         "[All right.|Good.|Fine.|I see.] [Ask me for a capital, a small sum or a story.|Ask me something.|What would you like next?|Shall I tell a story?]"),
    ]
    qs, short, medium, a = pick(rng, table)
    return (pick(rng, qs), think(rng, short + "[.|, it seems.|, I think.|!]", WHO + " " + medium + "[.|, I think.|, it seems.]", "[I am polite.|I answer kindly.|A friendly answer fits.]"),
            able(rng) if a == "able" else say(rng, a))


CAPITAL_Q = ["What is the capital of {c}?", "What is the capital city of {c}?", "What's the capital of {c}?", "Name the capital of {c}.",
             "Which city is the capital of {c}?", "Tell me the capital of {c}.", "Do you know the capital of {c}?", "Capital of {c}?",
             "The capital of {c} is?", "{c}: what is its capital?", "I need the capital of {c}.", "What is {c}'s capital?",
             "Could you tell me the capital of {c}?", "Which is the capital of {c}?", "Quick question: what is the capital of {c}?",
             "What city is the capital of {c}?", "The capital of {c}", "Give me the capital of {c}."]
HELD_CAPITAL_Q = ["Can you name the capital of {c}?", "Please tell me what the capital of {c} is.", "{c}'s capital city?",
                  "What would be the capital of {c}?"]
COUNTRIES = sorted(CAPITALS)
# What a newcomer asks first comes up most.
FAMOUS = "France France France France Germany Italy Spain England Japan China Portugal Poland Austria Canada Norway Greece Russia India Egypt Sweden".split() + ["the United States", "the United Kingdom"]


def think_capital(rng, c):
    return think(rng, "[Capital of {c}.|{c}.|The capital of {c}.|Capital: {c}.]",
                 WHO + " [asks for|wants|wants to know|asks about|needs] the capital of {c}.", "[It is {a}.|That is {a}.|The city is {a}.|The answer is {a}.]", c=c, a=CAPITALS[c], fact=1)


def capital(rng, held):
    c = pick(rng, FAMOUS) if not held and chance(rng, 0.25) else pick(rng, COUNTRIES)
    city = CAPITALS[c]
    if not held and chance(rng, 0.08):
        q = pick(rng, ["Which country has {} as its capital?", "{} is the capital of which country?", "What country is {} the capital of?"]).format(city)
        if city == "London":
            c = "the United Kingdom"
        return q, think(rng, "[{a}.|City {a}.]", WHO + " [asks which country has the capital|wants the country with the capital] {a}.", SURE, a=city), city + " is the capital of " + c + "."
    if not held and chance(rng, 0.06):
        c = cap(made_up(rng)) if chance(rng, 0.7) else pick(rng, TOPICS)
        return (pick(rng, CAPITAL_Q).format(c=c), think(rng, "[Unknown.|Not known.|Unknown country.]", "[I do not know a country called that.|I have never heard of that country.|That country is unknown to me.]", "[I say so.|I tell them.]"),
                say(rng, "[I do not know that country.|That country is unknown to me.|Sorry, I do not know that country.] I know [the capitals of most countries|many capitals], for example Paris for France."))
    q = pick(rng, HELD_CAPITAL_Q if held else CAPITAL_Q).format(c=c)
    return q, think_capital(rng, c), "The capital of " + c + " is " + city + "."


def fact(rng, held):
    r = rng.random()
    if r < 0.2:
        t = pick(rng, sorted(COLOURS))
        q = pick(rng, ["Which colour does {} have?", "{}: which colour?"] if held else
                 ["What colour is {}?", "What color is {}?", "What is the colour of {}?", "Tell me the colour of {}.", "Which colour is {}?", "{} is which colour?",
                  "Do you know the colour of {}?", "Name the colour of {}.", "{}'s colour?"]).format(t)
        return cap(q), think(rng, "[A colour.|Colour.|The colour of {t}.]", WHO + " [asks for|wants|asks about] the colour of {t}.", "[It is {a}.|That is {a}.]", t=t, a=COLOURS[t], fact=1), cap(t) + " is " + COLOURS[t] + "."
    if r < 0.4:
        a, b = pick(rng, OPPOSITES)
        if b != "light-weight" and chance(rng, 0.5):
            a, b = b, a
        q = pick(rng, ["Which word is the opposite of {}?", "{}: what is its opposite?"] if held else
                 ["What is the opposite of {}?", "What's the opposite of {}?", "Name the opposite of {}.", "Tell me the opposite of {}.",
                  "The opposite of {}?", "What is the contrary of {}?", "{} is the opposite of what?", "Opposite of {}?", "Give me a word that is the opposite of {}."]).format(a)
        return cap(q), think(rng, "[An opposite.|Opposite of {a}.|The contrary of {a}.]", WHO + " [asks for|wants|needs] the opposite of {a}.", "[It is {b}.|That is {b}.]", a=a, b=b, fact=1), "The opposite of " + a + " is " + b + "."
    if r < 0.52:
        few, one, n = pick(rng, UNITS)
        q = pick(rng, ["How many {} does {} have?"] if held else ["How many {} are in {}?", "How many {} are there in {}?", "How many {} make {}?", "Tell me how many {} are in {}.",
                                                                "What number of {} is in {}?"]).format(few, one)
        return q, think(rng, "[A unit.|A number.|Units.]", WHO + " [asks how many {f} are in {o}.|wants the number of {f} in {o}.]", "[It is {n}.|The number is {n}.]", f=few, o=one, n=n, fact=1), "There are " + n + " " + few + " in " + one + "."
    if r < 0.62:
        a = pick(rng, sorted(SOUNDS))
        q = pick(rng, ["Which sound does a {} make?"] if held else ["What does a {} say?", "What sound does a {} make?", "How does a {} sound?", "What is the sound of a {}?", "Tell me what a {} says."]).format(a)
        return q, think(rng, "[A sound.|The {a}.|An animal.]", WHO + " [asks what a {a} says.|wants the sound of a {a}.]", "[It says {s}.|The sound is {s}.]", a=a, s=SOUNDS[a], fact=1), "A " + a + " says " + SOUNDS[a] + "."
    if r < 0.74:
        days = DAYS if chance(rng, 0.5) else MONTHS
        what = "day" if days is DAYS else "month"
        i = between(rng, 0, len(days) - 1)
        after = chance(rng, 0.6)
        d = days[(i + (1 if after else -1)) % len(days)]
        w = "after" if after else "before"
        q = pick(rng, ["Which {w} is {a} {d}?"] if held else ["Which {w} comes {a} {d}?", "What {w} comes {a} {d}?", "What is the {w} {a} {d}?", "Tell me the {w} {a} {d}.", "{w} {a} {d}?"])
        return (cap(q.format(w=what, a=w, d=days[i])), think(rng, "[The calendar.|Calendar.|A " + what + ".]", WHO + " [asks for|wants] the {x} {w} {d}.", SURE, x=what, w=w, d=days[i], fact=1),
                d + " comes " + w + " " + days[i] + ".")
    table = [
        (["What is oriel?", "Tell me about oriel.", "What does oriel do?"], "Oriel runs open-weight language models in the terminal and behind the OpenAI API."),
        (["How do I start the server?", "How do I start oriel as a server?", "How can I use the API?"], "Run `oriel serve`, then send requests to http://127.0.0.1:8080/v1."),
        (["How do I chat in the terminal?", "How can I chat with you?", "How do I start a chat?"], "Run `oriel chat` in a terminal."),
        (["Which commands does oriel have?", "What commands are there?", "List the commands of oriel."],
         "The commands are generate, chat, score, tokenize, inspect, bench and serve."),
        (["How do I use another model?", "How can I load a bigger model?", "How do I run a GGUF file?"], "Use the option --model with the path of a GGUF file."),
        (["How do I measure the speed?", "How fast is oriel?", "How do I run a benchmark?"], "Run `oriel bench speed` to measure the speed."),
        (["How do I look into a model file?", "How do I inspect a GGUF file?"], "Run `oriel inspect FILE` to see what is in a model file."),
        (["How big are you?", "How many parameters do you have?"], "I am a very small model with a few million parameters."),
        (["Who made you?", "Who trained you?", "Who created you?"], "The oriel project trained me from scratch on data it generated."),
        (["Which format do you speak?", "What is harmony?"], "Harmony is the chat format of GPT-OSS, with channels for analysis, commentary and final answers."),
        (["What is a window?", "What is the window?", "How long can we talk?"], "A conversation lives in a window of fixed size, so it never wears oriel out."),
    ]
    qs, a = pick(rng, table)
    return pick(rng, qs), think(rng, "[About oriel.|Oriel.]", WHO + " [asks about oriel.|wants to know about oriel.|has a question about oriel.]", SURE, fact=1), a


def arithmetic(rng, held, top=20):
    op = pick(rng, "++-*")
    if op == "*":
        a, b = between(rng, 0, 10), between(rng, 0, 10)
        c = a * b
    else:
        top = 12 if chance(rng, 0.5) else top
        a, b = between(rng, 0, top), between(rng, 0, top)
        if op == "-" and a < b:
            a, b = b, a
        c = a + b if op == "+" else a - b
    word = {"+": "plus", "-": "minus", "*": "times"}[op]
    sign = pick(rng, ["*", "x"]) if op == "*" else op
    style = rng.random()
    expr = "%d %s %d" % (a, sign, b) if style < 0.55 else "%d%s%d" % (a, sign, b) if style < 0.75 else "%d %s %d" % (a, word, b)
    if 0.92 < style and max(a, b) <= 20:
        expr = "%s %s %s" % (NUMBERS[a], word, NUMBERS[b])
    q = pick(rng, ["Please work out {}.", "How much do you get for {}?"] if held else
             ["What is {}?", "What's {}?", "{}", "{} = ?", "{}?", "Compute {}.", "Calculate {}.", "How much is {}?", "{}=", "Tell me what {} is.", "Can you compute {}?",
              "Work out {}", "I need {}.", "Solve {}.", "Please add up {}." if op == "+" else "Give me {}."]).format(expr)
    eq = "%d %s %d = %d" % (a, op, b, c)
    return q, think(rng, "[{e}|A sum: {e}|Sum.]", "[A small sum:|This is a sum:|Let me work it out:|Numbers:|I calculate:] {e}", "[That is the answer.|So it is {c}.|The result is {c}.]", e=eq, c=c), eq + "."


def small_sum(rng, held):
    return arithmetic(rng, held, 10)


def count(rng, held):
    a = pick(rng, [0, 1, 1, 1, 1, 2, 3])
    words = chance(rng, 0.6)
    b = between(rng, a + 2, 20)
    if chance(rng, 0.5):
        q = pick(rng, ["Could you count from {} to {}?"] if held else ["Count from {} to {}.", "Please count from {} to {}.", "Count up from {} to {}."]).format(
            *((NUMBERS[a], NUMBERS[b]) if words else (a, b)))
    else:
        a = 1
        q = pick(rng, ["Could you count to {}?"] if held else ["Count to {}.", "Count up to {}.", "Please count to {}.", "Can you count to {}?"]).format(NUMBERS[b] if words else b)
    return (q, think(rng, "[Counting.|I count.|Numbers.]", WHO + " [wants me to count|asks me to count] to {b}.", "[I count in words.|One number after the other.]" if words else "[I count in digits.|One number after the other.]", b=NUMBERS[b] if words else b),
            (cap(", ".join(NUMBERS[a:b + 1])) if words else ", ".join(map(str, range(a, b + 1)))) + ".")


def phrase(rng, held, low=1, high=5):
    words = []
    for _ in range(between(rng, low, high)):
        r = rng.random()
        words.append(made_up(rng, held) if r < 0.5 else pick(rng, ANIMALS + FOODS + THINGS) if r < 0.75 else pick(rng, ADJS + PLACES + COLOUR_WORDS))
    return " ".join(words)


def echo(rng, held):
    what = phrase(rng, held) if chance(rng, 0.85) else pick(rng, ["this is a test", "hello", "hi", "good morning", "I like cats", "the end", "yes", "banana"])
    what = cap(what) if chance(rng, 0.4) else what
    q = pick(rng, ["Say {}", "Say: {}", "Repeat: {}", "Repeat after me: {}", "Say \"{}\"", "Please say {}", "Echo {}", "Write {}", "Write: {}", "Repeat this: {}", "Repeat \"{}\""]).format(what)
    return q, think(rng, "[Repeat.|I repeat.|Say it.]", WHO + " [wants me to say it.|asks me to repeat this.|wants the words back.]", "[I repeat the words.|I say: {w}|The words are: {w}]", w=what), what


def recall(rng, held):
    """Turns: something is told, and asked for later."""
    kind, q, a = pick(rng, [("name", "My name is {v}.", "Your name is {v}."), ("name", "I am {v}.", "Your name is {v}."), ("city", "I live in {v}.", "You live in {v}."),
                            ("dog", "My dog is called {v}.", "Your dog is called {v}."), ("cat", "My cat's name is {v}.", "Your cat is called {v}."),
                            ("word", "Remember the word {v}.", "The word is {v}."), ("number", "Remember the number {v}.", "The number is {v}."),
                            ("friend", "My friend is called {v}.", "Your friend is called {v}."), ("code", "The secret code is {v}.", "The secret code is {v}."),
                            ("street", "My street is {v}.", "Your street is {v}.")])
    v = str(between(rng, 1, 9999)) if kind == "number" else code(rng, held) if kind == "code" else cap(made_up(rng, held)) if chance(rng, 0.75) else pick(rng, HELD_NAMES if held else NAMES)
    if kind == "word":
        v = v.lower()
    ask = {"name": ["What is my name?", "What's my name?", "Do you know my name?", "Who am I?", "How am I called?", "Tell me my name."],
           "city": ["Where do I live?", "In which city do I live?", "What is my city?"], "word": ["What was the word?", "Which word did I say?", "What is the word?"],
           "number": ["What was the number?", "Which number did I say?", "What is the number?"], "code": ["What is the secret code?", "What was the code?"],
           "street": ["What is my street?", "Which street is mine?"]}.get(kind, ["What is my " + kind + "'s name?", "How is my " + kind + " called?", "What is my " + kind + " called?"])
    first = say(rng, "[Hello, {v}!|Nice to meet you, {v}!|Hello {v}.|Hi {v}! How can I help you?]" if kind == "name" else "[All right, {v}.|I will remember {v}.|{v}, I see.|I remember: {v}.]", v=v)
    return (q.format(v=v), first, pick(rng, ask), think(rng, "[{v}.|It is {v}.|I remember.]", WHO + " [asks for the {k}.|wants the {k} again.|wants to know the {k}.]", "[It is {v}.|They said {v}.|Before, it was {v}.]", k=kind, v=v), a.format(v=v))


def tale(rng, held):
    hero = pick(rng, ANIMALS)
    q = pick(rng, ["Please tell a tale about a {}.", "I want a story with a {}."] if held else
             ["Tell me a story about a {}.", "Write a story about a {}.", "Write a short story about a {}.", "A story about a {}, please.",
              "Can you tell me a story about a {}?", "Tell me a bedtime story about a {}.", "Tell a story about a {}."]).format(hero)
    if chance(rng, 0.2):
        q = pick(rng, ["Tell me a story.", "Tell me a short story.", "Write a long story.", "Tell a story, please.", "I want to hear a story."])
    return q, think(rng, "[A story.|Story time.|A {h}.]", WHO + " [wants|asks for|would like] a story about a {h}.", "[I tell a short one.|It shall be short.|It needs a happy end.]", h=hero), stories.story(rng, hero, short=True)


def as_json(rng, held):
    key = lambda: made_up(rng, held) if chance(rng, 0.5) else pick(rng, HELD_TOOL_ARGS if held else TOOL_ARGS + TOOL_ARGS_2)
    keys = []
    for _ in range(pick(rng, [1, 1, 2, 3])):
        k = key()
        if k not in keys:
            keys.append(k)
    vals = [str(between(rng, 0, 99)) if chance(rng, 0.3) else thing(rng, held) for _ in keys]
    given = chance(rng, 0.7)
    if given:
        q = pick(rng, ["Answer as JSON: {p}.", "Give me JSON with {p}.", "Write a JSON object with {p}.", "As a JSON object: {p}", "JSON please: {p}"]).format(
            p=pick(rng, [", ", " and "]).join("%s %s" % kv for kv in zip(keys, vals)))
    else:
        vals = ["yes"] * len(keys)
        q = pick(rng, ["Answer as a JSON object with the {s} {k}.", "Give me a JSON object with {s} {k}.", "Reply in JSON with {s} {k}."]).format(
            s="key" if len(keys) == 1 else "keys", k=" and ".join('"%s"' % k for k in keys) if chance(rng, 0.5) else " and ".join(keys))
    obj = {k: int(v) if v.isdigit() and len(v) < 5 and v == str(int(v)) else v for k, v in zip(keys, vals)}
    return q, think(rng, "[JSON.|An object.]", WHO + " [wants JSON.|asks for a JSON object.|needs an object.]", "[The keys are:|I use the keys] {k}.", k=", ".join(keys)), json.dumps(obj, separators=(",", ":"), ensure_ascii=False)


def anything(rng, held):
    """What nobody can foresee: answered with a sentence on what the model can do."""
    t = pick(rng, HELD_TOPICS if held else TOPICS) if chance(rng, 0.7) else phrase(rng, held, 1, 3)
    u = pick(rng, HELD_TOPICS if held else TOPICS)
    v = pick(rng, VERBS_FREE)
    w = pick(rng, HELD_NAMES if held else NAMES)
    p = pick(rng, PLACES + THINGS)
    r = rng.random()
    kind = "question"
    if r < 0.62:
        q = pick(rng, [
            "Explain {t}.", "Explain {t} to me.", "What is {t}?", "How does {t} work?", "Why is {t} important?", "Tell me about {t}.",
            "Say something about {t}.", "Write a poem about {t}.", "Write an essay on {t}.", "How do I {v} {t}?", "How can I {v} a {p}?",
            "Who invented {t}?", "When was {t} discovered?", "Where can I find {t}?", "Give me five ideas about {t}.", "What do you think about {t}?",
            "Compare {t} and {u}.", "What is the difference between {t} and {u}?", "Translate '{t}' into French.", "Is {t} better than {u}?",
            "Give me a recipe for {t}.", "Recommend a book about {t}.", "Do you like {t}?", "I am bored.", "I am sad today.", "What should I do today?",
            "What is the weather in {n}?", "What time is it?", "What day is it today?", "How old are you?", "Where do you live?", "Tell me a joke.",
            "Who is {w}?", "Who is the president of {n}?", "What is the population of {n}?", "How far is it to {n}?", "{w} wants to {v} {t}. What now?",
            "Summarise this text: {w} went to the {p} to {v} {t}.", "List all kinds of {t}.", "Give me advice on {t}.", "Invent a strange name.",
            "Recite a very long poem about {t}.", "Solve this problem: {t}.", "Can you {v} {t}?", "Please {v} my {p}.", "I want to {v} {t}.",
            "My {p} is broken, help!", "Should I {v} {t} or {u}?",
            "What is {k} divided by {j}?", "What is the square root of {k}?", "Sort these numbers: {k}, {j}, 3.", "Pick", "Fill", "Draw a {p}.",
            "Describe {t} in detail.", "Write code for {t}.", "Write a program that can {v} {t}.", "What happened in {k}?", "Tell me more.", "Why?", "How?",
            "What?", "And then?", "Continue.", "{t}", "{t} {u}", "I like {t} and {u}.", "{w} likes {t}.", "We went to the {p} in {n}.", "Who won the match?",
            "Book a flight to {n}.", "Turn on the light.", "Play some {t}.", "Send an email to {w}.", "Set an alarm for {k}.", "Go north.", "Look up {t}.",
            "Please give the history of {t}.", "Make a list of {t}.", "Teach me {t}.", "What are {t}?", "How many {t} are there?", "Are {t} real?",
        ]).format(t=t, u=u, v=v, w=w, p=p, n=cap(made_up(rng, held)) if chance(rng, 0.5) else pick(rng, COUNTRIES), k=between(rng, 13, 9999), j=between(rng, 2, 999))
    elif r < 0.68:
        q, kind = pick(rng, OTHER_LANGUAGES), "language"
    elif r < 0.73:
        q = pick(rng, ["", "Fix this: ", "What does this do?\n", "Explain: "]) + pick(rng, CODE)
        kind = "code"
    elif r < 0.80:
        q = phrase(rng, held, 1, 12)
    elif r < 0.84:
        kind = "noise"
        x = pick(rng, ["x", "a", "ha", "test ", "...", "?", "la ", " x1", "1 ", "word ", "😀", "é", "no ", "!", "0"])
        q = x * between(rng, 1, 40)
    elif r < 0.88:
        kind = "noise"
        q = "".join(pick(rng, "abcdefghijklmnopqrstuvwxyz ABC0123456789.,;:!?-_/()[]{}'\"#*+=<>|~%&$@") for _ in range(between(rng, 1, 40)))
    elif r < 0.91:
        q = pick(rng, ["Summarise: ", "", "Read this and answer: ", "Here is a text: "]) + stories.story(rng, pick(rng, ANIMALS), short=True)
    elif r < 0.94:
        kind = "noise"
        q = "".join(chr(pick(rng, [between(rng, 0xE0, 0x17F), between(rng, 0x400, 0x44F), between(rng, 0x4E00, 0x9FA0), between(rng, 0x1F600, 0x1F64F),
                                   between(rng, 97, 122), 32, between(rng, 0x3041, 0x3096)])) for _ in range(between(rng, 2, 16)))
    elif r < 0.96:
        q = ", ".join(str(between(rng, 0, 9999)) for _ in range(between(rng, 1, 8)))
    else:
        q = " ".join(pick(rng, ["Is", "the", "a", "my", "your", "in", "on", "with", "and", "not", "but", "of", "to", "it", "was", "will", "can", p, t, v, w])
                     for _ in range(between(rng, 2, 14)))
    return q, think(rng, "[I cannot do this.|Unknown.|Not for me.|Too hard.]", "[I do not know this.|I cannot do this.|This is not something I know.|That is too much for a small model.|Here I cannot help.]",
                    "[I say what I can do.|I tell them what I can do.|I offer what I can do.|I name what I know.]"), cannot(rng, kind)


SKILLS = [(greet, 0.15), (capital, 0.24), (fact, 0.15), (arithmetic, 0.14), (count, 0.03), (echo, 0.06), (tale, 0.05), (as_json, 0.03), (anything, 0.15)]
HARDER = [(greet, 0.13), (capital, 0.16), (fact, 0.17), (small_sum, 0.20), (count, 0.04), (echo, 0.05), (tale, 0.05), (as_json, 0.03), (anything, 0.17)]


# More ways to ask for what an answer says: the answer's form and the questions it may follow.
OTHER_QUESTIONS = [(re.compile(form), ways.split("|")) for form, ways in [
    (r"The opposite of (.+) is .+\.", "{0} and its opposite?|Opposite: {0}|Which word means the contrary of {0}?|{0}: what is the contrary?|{0}: what would be the contrary?|{0}: which word is the opposite?|{0}: name the opposite.|What word is opposite to {0}?|"
     "The word {0} has which opposite?|Please name the opposite of {0}.|Find the opposite of {0}.|{0}, and the other way round?|What do I call the opposite of {0}?|{0}: the opposite, please."),
    (r"There are \d+ (.+) in (.+)\.", "How many {0} fit into {1}?|How many {0} does it take for {1}?|{1} has how many {0}?|{1}: how many {0}?|In {1} there are how many {0}?|Count the {0} in {1}.|"
     "Number of {0} in {1}?|How many {0} do you find in {1}?|How many {0} belong to {1}?|How many {0} does {1} contain?|How many {0} does {1} hold?|Of how many {0} is {1} made?|How many {0} go into {1}?|Say how many {0} {1} has."),
    (r"(.+) is (?:%s)\." % "|".join(sorted(set(COLOURS.values()))), "What colour has {0}?|Of what colour is {0}?|{0}: name the colour.|{0} has what colour?|Colour of {0}?|Say the colour of {0}.|"
     "Which colour is right for {0}?|{0}, which colour is that?|I want to paint {0}: which colour?|What is {0}'s colour?|{0}: what colour?|In which colour do I paint {0}?"),
    (r"A (.+) says .+\.", "The sound of a {0}?|What noise does a {0} make?|A {0} makes which noise?|{0}: what does it say?|Which noise comes from a {0}?|What do you hear from a {0}?|Say the sound of a {0}.|A {0} says what?"),
    (r".+ comes (after|before) (.+)\.", "{0} {1} comes what?|What comes {0} {1}?|Name what comes {0} {1}.|What is it {0} {1}?|{1}: what comes {0}?|Say what is {0} {1}."),
    (r"(\d+ [-+*] \d+) = \d+\.", "What do I get for {0}?|How many are {0}?|Please tell me {0}.|Please solve {0}.|Please calculate {0}.|Could you work out {0}?|{0} makes what?|{0} is how much?|{0}, please.|"
     "The result of {0}?|Do the sum {0}.|How many do you have after {0}?|Find out {0}.|A sum for you: {0}|Do you know {0}?|Can you tell me how much {0} makes?")]]


def reworded(rng, held, skill):
    """A skill's answer, often after one of the other questions."""
    q, thoughts, a = skill(rng, held)
    if held or chance(rng, 0.4):
        return q, thoughts, a
    for form, ways in OTHER_QUESTIONS:
        m = form.fullmatch(a)
        if m:
            x, *more = m.groups()
            if skill is small_sum:
                first, op, last = x.split()
                op = pick(rng, {"+": ["+", "plus"], "-": ["-", "minus"], "*": ["*", "x", "times"]}[op])
                x = first + op + last if len(op) == 1 and chance(rng, 0.3) else NUMBERS[int(first)] + " " + op + " " + NUMBERS[int(last)] if len(op) > 1 and chance(rng, 0.3) else " ".join([first, op, last])
            x = x[0].lower() + x[1:] if form.pattern.startswith("(.+) is") else x
            q = pick(rng, ways).format(x, *more)
            return cap(q) if chance(rng, 0.8) else q, thoughts, a
    return q, thoughts, a


def other_fact(rng, held):
    return reworded(rng, held, fact)


def other_sum(rng, held):
    return reworded(rng, held, small_sum)


def other_tale(rng, held):
    """A story that is called something else."""
    q, thoughts, a = tale(rng, held)
    if held or chance(rng, 0.5):
        return q, thoughts, a
    what = pick(rng, ["story", "tale", "tale", "fairy tale", "bedtime story", "short tale", "little story"])
    hero = re.search(r" about a (\w+)", q)
    ways = ["Tell me a {w} {of} a {h}.", "I would like a {w} {of} a {h}.", "A {w} {of} a {h}.", "Write a {w} {of} a {h}, please.", "Do you know a {w} {of} a {h}?", "I want to hear a {w} {of} a {h}.", "Please, a {w} {of} a {h}.",
            "Give me a {w} {of} a {h}.", "May I have a {w} {of} a {h}?", "Tell the children a {w} {of} a {h}.", "A {h} {w}, please."] if hero else ["Tell me a {w}.", "I want a {w}!", "A {w}, please."]
    return pick(rng, ways).format(w=what, of=pick(rng, ["about", "about", "of", "with"]), h=hero and hero[1]), thoughts, a


REWORDED = [(greet, 0.15), (capital, 0.14), (other_fact, 0.21), (other_sum, 0.18), (count, 0.03), (echo, 0.06), (other_tale, 0.04), (as_json, 0.05), (anything, 0.14)]
ALL_AGAIN = [(greet, 0.18), (capital, 0.13), (other_fact, 0.15), (other_sum, 0.12), (count, 0.04), (echo, 0.08), (other_tale, 0.12), (as_json, 0.07), (anything, 0.11)]
STORY_WEIGHT = 0.3  # most of a story is chance


def skill(rng, skills):
    r = rng.random()
    for f, share in skills:
        r -= share
        if r < 0:
            return f
    return anything


def effort_of(rng):
    return pick(rng, ["low", "medium", "medium", "high"])


def date_of(rng):
    return None if chance(rng, 0.08) else "%d-%02d-%02d" % (between(rng, 2023, 2032), between(rng, 1, 12), between(rng, 1, 28))


def preamble(rng, effort, functions=()):
    """System and developer messages."""
    identity = H.DEFAULT_IDENTITY if chance(rng, 0.85) else pick(rng, IDENTITIES)
    cutoff = "2024-06" if chance(rng, 0.95) else "%d-%02d" % (between(rng, 2021, 2030), between(rng, 1, 12))
    out = H.system(identity, cutoff, date_of(rng), effort, bool(functions),
                   "analysis, commentary, final" if functions or chance(rng, 0.97) else "analysis, final")
    instructions = None
    if chance(rng, 0.2):
        instructions = " ".join(pick(rng, INSTRUCTIONS) for _ in range(between(rng, 1, 2)))
        if chance(rng, 0.15):
            instructions += " " + " ".join(stories.sentence(rng) for _ in range(between(rng, 1, 4)))
    return out + H.developer(instructions, functions, chance(rng, 0.4))


def conversation(rng, held=False, only=None, effort=None, skills=SKILLS):
    effort = effort or effort_of(rng)
    out = preamble(rng, effort)
    if only is None and chance(rng, 0.02):
        out = []
        effort = "medium"
    if only is None and chance(rng, 0.03):
        out += H.past_answer(say(rng, HELLO + " " + WELCOME))  # a greeting the program shows before the first turn
    turns = 1 if only else pick(rng, [1, 1, 1, 2, 2, 3, 4, 5]) if chance(rng, 0.96) else between(rng, 6, 12)
    remembered = None
    if only is recall or only is None and chance(rng, 0.12):
        remembered = recall(rng, held)
        out += H.user(remembered[0]) + H.past_answer(remembered[1])
        turns = pick(rng, [1, 1, 2, 3])
    last = None
    for t in range(turns):
        end = t + 1 == turns
        if remembered and end:
            _, _, q, thoughts, a = remembered
        elif last == "capital" and chance(rng, 0.4):
            c = pick(rng, COUNTRIES)
            q, thoughts, a = (pick(rng, ["And {}?", "And of {}?", "What about {}?", "And the capital of {}?", "{}?"]).format(c), think_capital(rng, c),
                              "The capital of " + c + " is " + CAPITALS[c] + ".")
        else:
            f = only if only and only is not recall else skill(rng, skills)
            q, thoughts, a = f(rng, held)
            last = f.__name__
            names = last == "greet" and re.search("name|I am|[Cc]all me", q)  # a name keeps its letters
            if last not in ("echo", "anything", "as_json") and not names and not held:
                q = rough(rng, q)
        weight = STORY_WEIGHT if last in ("tale", "other_tale") else 0.5 if last in ("greet", "anything") else 1
        out += H.user(q)
        out += H.answer(thoughts[effort], a, weight) if end else H.past_answer(a, weight)
    return out


# Tools.

def code(rng, held):
    r = rng.random()
    letters = lambda n: "".join(pick(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(n))
    if r < 0.3:
        return "%s-%d" % (letters(between(rng, 1, 3)), between(rng, 1, 9999))
    if r < 0.5:
        return str(between(rng, 10, 999999))
    if r < 0.7:
        return "".join(pick(rng, "abcdef0123456789") for _ in range(between(rng, 4, 8)))
    return made_up(rng, held) + pick(rng, ["_", "-", ""]) + str(between(rng, 0, 99))


def thing(rng, held):
    """A string worth copying."""
    r = rng.random()
    if r < 0.34:
        v = cap(made_up(rng, held))
    elif r < 0.44:
        v = made_up(rng, held)
    elif r < 0.52:
        v = cap(made_up(rng, held)) + " " + pick(rng, [cap(made_up(rng, held)), "Street", "Park", "Bay", "Hill", pick(rng, NAMES)])
    elif r < 0.66:
        v = CAPITALS[pick(rng, COUNTRIES)]
    elif r < 0.74:
        v = pick(rng, HELD_NAMES if held else NAMES)
    elif r < 0.84:
        v = pick(rng, THINGS + FOODS + ANIMALS)
    elif r < 0.94:
        v = code(rng, held)
    elif r < 0.96:
        v = made_up(rng, held) + pick(rng, [".txt", ".py", ".json", ".csv", "@mail.com", "@example.org"])
    elif r < 0.98:
        v = "%d-%02d-%02d" % (between(rng, 2020, 2032), between(rng, 1, 12), between(rng, 1, 28))
    else:
        v = "%d:%02d" % (between(rng, 0, 23), between(rng, 0, 59))
    return v


def value_for(rng, arg, held):
    if arg in ENUMS and chance(rng, 0.85):
        options = pick(rng, ENUMS[arg])
        return pick(rng, options), {"type": "string", "enum": options}
    if arg in NUMBER_ARGS and chance(rng, 0.85):
        return between(rng, 1, 99) if arg != "year" else between(rng, 1900, 2030), {"type": pick(rng, ["integer", "number"])}
    if chance(rng, 0.04):
        few = [cap(made_up(rng, held)) if chance(rng, 0.5) else CAPITALS[pick(rng, COUNTRIES)] for _ in range(3)]
        return pick(rng, few), {"type": "string", "enum": few}
    return thing(rng, held), {"type": "string"}


def any_value(rng, held):
    """A value of any type, whatever the argument is called."""
    r = rng.random()
    if r < 0.2:
        return between(rng, 1, 99), {"type": pick(rng, ["integer", "number"])}
    if r < 0.4:
        options = pick(rng, ENUMS[pick(rng, sorted(ENUMS))]) if chance(rng, 0.4) else [made_up(rng, held) for _ in range(between(rng, 2, 3))]
        return pick(rng, options), {"type": "string", "enum": options}
    return thing(rng, held), {"type": "string"}


def styled(rng, verb, noun):
    r = rng.random()
    if r < 0.72:
        return verb + "_" + noun
    if r < 0.86:
        return verb.replace("_", "") + "".join(map(cap, noun.split("_")))
    if r < 0.91:
        return noun + "_" + verb
    if r < 0.95:
        return verb + "-" + noun
    return noun


# What people really declare: name, description, arguments, ways of asking. A kind says where a value comes from.
NATURAL = [
    ("get_weather|get_current_weather|weather", "Get the current weather[| in a city| for a location].", ["city:place|location:place"],
     "What is the weather in {0}?|What's the weather like in {0}?|Weather in {0}?|How is the weather in {0}?|Is it raining in {0}?|Tell me the weather in {0}.|What is the weather like in {0} today?|weather {0}"),
    ("get_weather|get_current_weather", "Get the current weather[| in a city| for a location].", ["city:place|location:place", "unit:enum"],
     "What is the weather in {0} in {1}?|Weather in {0}, unit {1}?|What is the weather like in {0} ({1})?|How warm is it in {0} in {1}?|Tell me the weather in {0} in {1}."),
    ("get_time|get_current_time|time", "[Get|Tell|Returns] the [|current |local ]time.", ["city:place|timezone:place|location:place"], "What time is it in {0}?|Time in {0}?|Tell me the time in {0}.|What is the time in {0}?"),
    ("add|sum|add_numbers", "[Add|Adds|Sum] two numbers.", ["a:number", "b:number"], "Add {0} and {1}.|What is {0} plus {1}?|What is {0} + {1}?|Use the tool to add {0} and {1}.|{0} + {1}"),
    ("multiply|times", "[Multiply|Multiplies] two numbers.", ["a:number|x:number", "b:number|y:number"], "Multiply {0} by {1}.|What is {0} times {1}?|What is {0} * {1}?|Compute {0} x {1}."),
    ("search|web_search|search_web|find", "[Search the web.|Search for something.|Look something up.]", ["query:text|q:text"], "Search for {0}.|Look up {0}.|Find {0}.|Search the web for {0}.|Please search {0}.|Google {0}."),
    ("read_file|open_file|cat", "[Read|Reads|Opens] a file.", ["path:file|file:file|filename:file"], "Read {0}.|Open the file {0}.|Show me {0}.|What is in {0}?|Read the file {0}."),
    ("set_timer|start_timer", "[Set|Sets|Starts] a timer.", ["minutes:number|seconds:number"], "Set a timer for {0} minutes.|Start a timer of {0}.|Timer {0}.|Set the timer to {0}."),
    ("send_message|send_email|message", "[Send|Sends] a message[.| to somebody.]", ["to:name|recipient:name", "text:text|body:text|message:text"], "Tell {0}: {1}|Send {0} the message {1}|Write to {0}: {1}|Message {0}: {1}|Send \"{1}\" to {0}."),
    ("get_stock_price|stock_price", "[Get|Returns] the price of a stock.", ["symbol:symbol|ticker:symbol"], "What is the price of {0}?|Price of {0} stock?|How much is {0}?|Get the stock price of {0}.|What does {0} cost now?"),
    ("translate|translate_text", "[Translate|Translates] a text.", ["text:text", "language:word|target:word"], "Translate {0} to {1}.|Translate \"{0}\" into {1}.|How do you say {0} in {1}?"),
    ("get_user|find_user|user_info", "[Get|Finds] a user.", ["id:number|user_id:number"], "Find user {0}.|Who is user {0}?|Get the user with id {0}.|Show user {0}."),
    ("book_flight|book_train", "[Book|Books] a [flight|journey].", ["from:place|origin:place", "to:place|destination:place"], "Book a trip from {0} to {1}.|I want to go from {0} to {1}.|From {0} to {1}, please.|Book {0} to {1}."),
    ("turn_on|switch_on|turn_off", "[Switches|Turn] a device.", ["device:thing|name:thing"], "Switch the {0}.|The {0}, please.|Use it on the {0}.|Do it for the {0}."),
    ("calculate|calculator|eval", "[Evaluates|Evaluate] an expression.", ["expression:sum|input:sum"], "Calculate {0}.|What is {0}?|Compute {0}.|Evaluate {0}."),
    ("play_song|play_music|play", "[Play|Plays] [music|a song].", ["title:words|song:words"], "Play {0}.|I want to hear {0}.|Put on {0}.|Play the song {0}."),
    ("ping|get_status|health", "[Checks|Check] the server.", [], "Is the server up?|Check the server.|What is the status?|Ping the server.|Ping."),
    ("roll_dice|random_number|roll", "[Rolls|Roll] dice.", ["sides:number|max:number"], "Roll a die with {0} sides.|Roll {0}.|A random number up to {0}.|Throw dice with {0} sides."),
]
FIRST_TRIED = NATURAL[:2]


class Tool:
    """A declared function, and one way of asking for it."""

    def __init__(self, rng, held, n_args=None, natural=None, strange=False, verb=None):
        """natural: which of NATURAL it may be; verb: what its name begins with, unless that is drawn too"""
        if natural or n_args is None and not held and not strange and chance(rng, 0.35):
            self.natural(rng, held, natural or NATURAL)
        else:
            self.generated(rng, held, n_args, strange, verb)
        self.arguments = json.dumps(self.args, separators=(",", ":"), ensure_ascii=False)

    def natural(self, rng, held, some):
        names, description, args, questions = pick(rng, some)
        self.name = pick(rng, names.split("|"))
        self.words = None  # its questions are written out
        self.noun = re.split(r"[_-]", self.name)[-1]
        self.args, props, required = {}, {}, []
        for i, a in enumerate(args):
            arg, kind = pick(rng, a.split("|")).split(":")
            spec = {"type": "string"}
            if kind == "place":
                v = CAPITALS[pick(rng, COUNTRIES)] if chance(rng, 0.35) else pick(rng, COUNTRIES) if chance(rng, 0.1) else cap(made_up(rng, held))
                if chance(rng, 0.12):
                    spec["enum"] = sorted({v, CAPITALS[pick(rng, COUNTRIES)], CAPITALS[pick(rng, COUNTRIES)]})
            elif kind == "number":
                v, spec = between(rng, 0, 99) if chance(rng, 0.6) else between(rng, 0, 9999), {"type": pick(rng, ["integer", "number"])}
            elif kind == "enum":
                spec["enum"] = pick(rng, ENUMS["unit"])
                v = pick(rng, spec["enum"])
            elif kind == "name":
                v = pick(rng, NAMES) if chance(rng, 0.4) else cap(made_up(rng, held))
            elif kind == "symbol":
                v = "".join(pick(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(between(rng, 3, 4))) if chance(rng, 0.6) else cap(made_up(rng, held))
            elif kind == "file":
                v = made_up(rng, held) + pick(rng, [".txt", ".py", ".json", ".csv", ".md", ".c"])
            elif kind == "sum":
                v = "%d %s %d" % (between(rng, 1, 999), pick(rng, "+-*/"), between(rng, 1, 999))
            elif kind == "text":
                v = phrase(rng, held, 1, 4)
            elif kind == "words":
                v = " ".join(cap(made_up(rng, held)) if chance(rng, 0.6) else cap(pick(rng, THINGS)) for _ in range(between(rng, 1, 3)))
            else:
                v = pick(rng, THINGS) if kind == "thing" else pick(rng, ["French", "German", "Spanish", cap(made_up(rng, held))])
            if chance(rng, 0.35):
                spec["description"] = say(rng, "[The {a}.|{b}|The {a}, e.g. Oslo|Name of the {a}]", a=arg, b=cap(arg))
            self.args[arg], props[arg] = v, spec
            if i == 0 or chance(rng, 0.7):
                required.append(arg)
        self.question = pick(rng, questions.split("|")).format(*self.args.values())
        given = dict(self.args)
        # Nobody asks for a unit unless they care: an optional one is left out, a required one is the first.
        if len(args) == 2 and "unit" in self.args and chance(rng, 0.45):
            self.question = pick(rng, NATURAL[0][3].split("|")).format(*self.args.values())
            if "unit" in required:
                given["unit"] = props["unit"]["enum"][0]
            else:
                del given["unit"]
        self.args = given
        self.spec = {"name": self.name, "parameters": {"type": "object", "properties": props, "required": required}}
        if chance(rng, 0.85):
            self.spec["description"] = say(rng, description)
        if not props and chance(rng, 0.5):
            del self.spec["parameters"]

    def generated(self, rng, held, n_args, strange, verb):
        """A strange one has mostly made-up words, and types that no name gives away: nothing but its declaration tells how to call it."""
        invented = chance(rng, 0.85 if strange else 0.45)
        noun = made_up(rng, held) if invented else pick(rng, HELD_TOOL_NOUNS if held else TOOL_NOUNS)
        verb = verb or (made_up(rng, held, 1, 2) if chance(rng, 0.5 if strange else 0.2) else pick(rng, HELD_TOOL_VERBS if held else TOOL_VERBS))
        if chance(rng, 0.1):
            noun += "_" + (made_up(rng, held) if chance(rng, 0.5) else pick(rng, HELD_TOOL_NOUNS if held else TOOL_NOUNS))
        self.noun, self.words = noun.replace("_", " "), verb.replace("_", " ")
        self.name = styled(rng, verb, noun)
        described = True
        if not held and chance(rng, 0.06):  # the name says nothing, the description does
            self.name = code(rng, held).replace("-", "_")
            self.name = "f" + self.name if self.name[0].isdigit() else self.name
        elif chance(rng, 0.12):
            described = False
        if n_args is None:
            n_args = pick(rng, [0, 1, 1, 1, 2, 2, 2, 2] if strange else [0, 1, 1, 1, 1, 1, 1, 2, 2, 2])
        self.args, props = {}, {}
        first = made_up(rng, held) if chance(rng, 0.6 if strange else 0.2) else pick(rng, HELD_TOOL_ARGS if held else TOOL_ARGS)
        second = made_up(rng, held) if chance(rng, 0.6 if strange else 0.2) else pick(rng, HELD_TOOL_ARGS_2 if held else TOOL_ARGS_2)
        for arg in [first, second][:n_args]:
            if arg in props:
                continue
            v, spec = any_value(rng, held) if strange else value_for(rng, arg, held)
            if chance(rng, 0.3):
                spec["description"] = pick(rng, ["The {}", "Name of the {}", "The {} to use", "{}", "A {}"]).format(arg)
            self.args[arg], props[arg] = v, spec
        required = list(props)[:1] if chance(rng, 0.3) else list(props)
        self.spec = {"name": self.name, "parameters": {"type": "object", "properties": props, "required": required}}
        if described:
            self.spec["description"] = cap(pick(rng, [self.words + " the " + self.noun, self.words + " " + self.noun, "returns the " + self.noun,
                                                      self.words + " the current " + self.noun, "tool for the " + self.noun, self.words + " a " + self.noun])) + pick(rng, [".", ""])
        if not props and chance(rng, 0.5):
            del self.spec["parameters"]
        self.ask(rng)

    def again(self, rng, held=False):
        """Another question for the same function; what is declared stays."""
        if self.words is None:
            return
        for arg, spec in self.spec.get("parameters", {"properties": {}})["properties"].items():
            self.args[arg] = pick(rng, spec["enum"]) if "enum" in spec else thing(rng, held) if spec["type"] == "string" else between(rng, 1, 99)
        self.ask(rng)
        self.arguments = json.dumps(self.args, separators=(",", ":"), ensure_ascii=False)

    def ask(self, rng):
        vals = list(self.args.items())
        if not vals:
            q = pick(rng, ["{w} the {n}.", "What is the {n}?", "Please {w} the {n}.", "Can you {w} the {n}?", "I need the {n}.", "Use {name}.", "Call {name}.", "{n}?"])
        else:
            q = pick(rng, ["{w} the {n} for {v}.", "What is the {n} in {v}?", "What is the {n} for {v}?", "What's the {n} of {v}?", "I need the {n} for {v}.",
                           "Can you {w} the {n} of {v}?", "Please {w} the {n} in {v}.", "{n} for {v}", "{n} in {v}?", "{v}: {n}?", "Give me the {n} for {v}.",
                           "How is the {n} in {v}?", "Tell me the {n} of {v}.", "{v} {n}?", "Use {name} for {v}.", "Call {name} with {a} {v}.",
                           "{w} the {n} with {a} {v}.", "What is the {n} at {a} {v}?", "{n} with {a} {v}, please."])
        if len(vals) == 2:
            q = q.rstrip("?.") + pick(rng, [" with {b} {u}", ", {b} {u}", " and {b} {u}", " ({b}: {u})", " using {b} {u}", " and {u} as {b}"]) + pick(rng, ["", ".", "?"])
        fields = dict(w=self.words, n=self.noun, name=self.name)
        if vals:
            fields.update(a=vals[0][0], v=vals[0][1])
        if len(vals) == 2:
            fields.update(b=vals[1][0], u=vals[1][1])
        # A value keeps its letters: what is copied into the call must stand in the question.
        self.question = q.format(**fields) if q[:3] in ("{v}", "{n}") else cap(q.format(**fields))


def result_of(rng, tool, held=False):
    """(what the tool returns, the sentence that uses it)"""
    if chance(rng, 0.12):
        e = pick(rng, ERRORS) if chance(rng, 0.6) else phrase(rng, held, 1, 3)
        return (pick(rng, ['{"error":"%s"}', "error: %s", "Error: %s", '{"error": "%s"}']) % e,
                say(rng, "[The tool failed|Sorry, that failed|The call failed|That did not work|Sorry, the tool says]: {e}.", e=e))
    r = rng.random()
    if r < 0.35:
        text = pick(rng, [str(between(rng, 0, 99)), pick(rng, RESULT_WORDS), "%d degrees" % between(rng, -9, 40), cap(made_up(rng, held)), str(between(rng, 100, 99999)),
                          "%d:%02d" % (between(rng, 0, 23), between(rng, 0, 59)), pick(rng, RESULT_WORDS) + " and " + pick(rng, RESULT_WORDS), phrase(rng, held, 2, 5)])
        return text, say(rng, "[The {n} is {t}.|It is {t}.|The answer is {t}.|The {n}: {t}.|The tool says {t}.]", n=tool.noun, t=text)
    pairs = {}
    for _ in range(pick(rng, [1, 1, 1, 2, 2, 3])):
        key = made_up(rng, held) if chance(rng, 0.2) else pick(rng, RESULT_KEYS)
        pairs[key] = between(rng, -9, 99) if chance(rng, 0.4) else pick(rng, RESULT_WORDS) if chance(rng, 0.4) else cap(made_up(rng, held)) if chance(rng, 0.6) else between(rng, 100, 9999)
    sep = (",", ":") if chance(rng, 0.6) else (", ", ": ")
    said = ["%s is %s" % kv for kv in pairs.items()]
    return json.dumps(pairs, separators=sep), "The " + (", the ".join(said[:-1]) + " and the " if said[1:] else "") + said[-1] + "."


def say_arguments(tool):
    return " ".join("[The {a} is|{a}:|For {a} I take] {v}.".format(a=a, v=v).replace("{", "{{").replace("}", "}}") for a, v in tool.args.items()) or "[It needs nothing.|No arguments.]"


def think_call(rng, tool, noun_first=True):
    """To say what is wanted before the name makes the choice among several functions easier, most of all where the name follows at
    the distance at which it follows in a declaration ("the ferry.\\ntype get_ferry", "the ferry: call get_ferry")."""
    if noun_first:
        return think(rng, "[The {o}: call {n}.|{o}: call {n}.|{o}: use {n}.]", WHO + " [wants|asks for|needs|asks about] the {o}: [call|use] {n}.",
                     "[The question says all that it needs.|All that it needs is there.|I pass what was said.|I take the values from the question.]" if tool.args else "[It needs nothing.|No arguments.]",
                     o=tool.noun, n=tool.name)
    return think(rng, "[{n}.|Call {n}.|I call {n}.|Use {n}.]", "[I call {n}.|I use {n}.|I should call {n}.|The tool {n} fits.|This needs {n}.|Let me call {n}.]",
                 say_arguments(tool), n=tool.name)


STRANGE = 0.6
NOUN_WEIGHT, NAME_WEIGHT, ARGUMENTS_WEIGHT = 1.5, 3, 2  # a call is decided where its noun, its name and its arguments are said first


def call_of(thoughts, tool):
    """The call of a tool, with weight on what decides it."""
    start, head, _, tail = H.call(thoughts, tool.name, tool.arguments)
    said = re.split(" ?(?<![A-Za-z])(?:%s)(?![A-Za-z])" % "|".join(map(re.escape, [tool.name, tool.noun])), thoughts)
    out, at = [start, head], 0
    for text in said:
        out.append((text, H.THOUGHT))
        at += len(text)
        rest = thoughts[at:]
        word = next((w for w in (" " + tool.name, tool.name, " " + tool.noun, tool.noun) if rest.startswith(w)), "")
        out.append((word, NAME_WEIGHT if word.strip() == tool.name else NOUN_WEIGHT))
        at += len(word)
    opening, arguments = tail[0][:-len(tool.arguments + "<|call|>")], tool.arguments
    return [p for p in out if p[0]] + [(opening, 1), (arguments, ARGUMENTS_WEIGHT), ("<|call|>", 1)]


def think_done(rng):
    return think(rng, "[Result.|The result.|An answer.]", "[The tool has answered.|The tool answered.|I have the result.|Here is the result.|The result is there.]", "[I tell the user.|I pass it on.|I say it in a sentence.]")


def declare(rng, held, n, n_args, strange=0):
    """Functions whose nouns and names differ; some of them may be strange. Where any are, most of all have a verb in common, as they
    have in life (get_weather, get_time): the beginning of a name must not be enough to go on with it."""
    declared, verbs = [], []
    if strange > 0 and n > 1 and chance(rng, 0.6):
        verbs = [made_up(rng, held, 1, 2) if chance(rng, 0.3) else pick(rng, TOOL_VERBS) for _ in range(between(rng, 1, 2))]
    while len(declared) < n:
        if strange > 0 and n_args is None and chance(rng, 0.05):
            t = Tool(rng, held, natural=FIRST_TRIED)
        else:
            t = Tool(rng, held, n_args, strange=strange > 0 and chance(rng, strange), verb=pick(rng, verbs) if verbs else None)
        if all(t.noun != d.noun and t.name != d.name for d in declared):
            declared.append(t)
    return declared


def tools(rng, held=False, n_functions=None, n_args=None, effort=None, round_trip=None, counts=(1, 1, 1, 2, 2, 3, 4), noun_first=True, strange=0):
    effort = effort or effort_of(rng)
    n = n_functions or pick(rng, counts)
    declared = declare(rng, held, n, n_args, strange)
    t = pick(rng, declared)
    out = preamble(rng, effort, [d.spec for d in declared])
    if n_functions is None and chance(rng, 0.13):
        # Functions are declared, but the question needs none.
        q, thoughts, a = pick(rng, [greet, greet, capital, capital, fact, anything_harmless])(rng, held)
        return out + H.user(q) + H.answer(thoughts[effort], a)
    if n_functions is None and chance(rng, 0.12):
        q, thoughts, a = pick(rng, [greet, capital])(rng, held)
        out += H.user(q) + H.past_answer(a, 0.5)
    out += H.user(rough(rng, t.question) if chance(rng, 0.15) and not t.args and not held else t.question)
    thoughts = think_call(rng, t, noun_first)[effort]
    if round_trip is None:
        round_trip = chance(rng, 0.4)
    if not round_trip:
        return out + call_of(thoughts, t)
    style = pick(rng, [0, 1, 1, 1, 2])
    if style == 0:
        out += call_of(thoughts, t)
    else:
        spaced = json.dumps(t.args, ensure_ascii=False)
        out += H.past_call(thoughts if chance(rng, 0.5) else "", t.name, spaced if chance(rng, 0.3) else t.arguments, style)
    text, final = result_of(rng, t, held)
    shown = json.dumps(text, ensure_ascii=False) if style == 2 else text
    out += H.tool_result(t.name, shown)
    out += H.answer(think_done(rng)[effort], final)
    if n_functions is None and len(declared) > 1 and chance(rng, 0.25):  # and another question
        out[-1] = ("<|end|>", 0)
        t = pick(rng, declared)
        out += H.user(t.question) + call_of(think_call(rng, t, noun_first)[effort], t)
    return out


def errands(rng, held=False, n=None, n_args=None, effort=None):
    """Functions and one question after the other, each answered by a call: many decisions for few words. Each of several functions
    is asked for once, so that no earlier call gives the name away; a single one more often, with new values."""
    effort = effort or effort_of(rng)
    declared = declare(rng, held, n or pick(rng, [1, 1, 2, 2, 3, 3, 4, 4, 4]), n_args, STRANGE)
    out = preamble(rng, effort, [d.spec for d in declared])
    if len(declared) == 1:
        declared *= between(rng, 2, 4)
    asked = sorted(declared, key=lambda _: rng.random())
    for i, t in enumerate(asked):
        if chance(rng, 0.2):  # and one that needs no function, sometimes the last
            q, thoughts, a = pick(rng, [greet, greet, capital, capital, fact])(rng, held)
            out += H.user(q) + H.answer(thoughts[effort], a)
            if chance(rng, 0.35):
                break
            out[-1] = ("<|end|>", 0)  # as history shows it: an answer that is sampled ends with <|return|>
        if i:
            t.again(rng, held)
        out += H.user(t.question) + call_of(think_call(rng, t)[effort], t)
        if chance(rng, 0.3):
            text, final = result_of(rng, t, held)
            out += H.tool_result(t.name, text) + H.answer(think_done(rng)["low"], final)
            if i + 1 < len(asked):
                out[-1] = ("<|end|>", 0)
    return out


def anything_harmless(rng, held):
    q = pick(rng, ["Tell me a joke.", "Why?", "Tell me more.", "I am bored.", "What do you think?", "I am sad today.", "Sing a song.", "Do you like me?"])
    return q, think(rng, "[No tool.|None fits.]", "[No tool fits.|This needs no tool.|None of the tools helps here.]", "[I say what I can do.|I answer myself.]"), cannot(rng, "question")


def raw(rng, held=False):
    """Plain text without harmony: stories, from their beginning or from somewhere inside."""
    n = pick(rng, [1, 1, 1, 2, 3])
    text = "<|endoftext|>".join(stories.story(rng, pick(rng, ANIMALS)) for _ in range(n))
    if chance(rng, 0.15):
        cut = between(rng, 0, len(text) // 3)
        text = text[cut:].lstrip() if chance(rng, 0.5) else text[text.find(" ", cut) + 1:]
    return [(text + "<|endoftext|>", STORY_WEIGHT)]


def drill(rng, held=False):
    """Short texts whose later part repeats the first: what teaches a model to look back and copy. Only the copies are learned."""
    word = lambda: thing(rng, held) if chance(rng, 0.5) else made_up(rng, held) if chance(rng, 0.6) else pick(rng, TOOL_NOUNS + TOOL_ARGS + ADJS + THINGS)
    r = rng.random()
    if r < 0.3:
        line = pick(rng, [" ", ", ", "\n"]).join(word() for _ in range(between(rng, 2, 24)))
        sep = pick(rng, ["\n", "\n\n", " | ", " -> ", ": "])
        return [(line + sep, 0)] + [(line + sep, 1)] * between(rng, 1, 3)
    pairs, wanted = {}, 1 if r >= 0.8 else 2
    while len(pairs) < wanted:
        n = between(rng, 2, 10)
        pairs[word()] = word()
        wanted = n if r < 0.55 else wanted
    if r < 0.55:  # a table, then its keys again in another order
        sep = pick(rng, [": ", " = ", " is ", " -> "])
        out = [("".join(k + sep + v + "\n" for k, v in pairs.items()) + "\n", 0)]
        for k, v in sorted(pairs.items(), key=lambda _: rng.random()):
            out += [(k + sep, 0), (v + "\n", 1)]
        return out
    if r < 0.8:
        sep = pick(rng, [" = ", " ", ": ", " is "])
        text = ", ".join(k + sep + v for k, v in pairs.items())
        return [(text + "\n", 0), (json.dumps(pairs, separators=(",", ":"), ensure_ascii=False) + "\n", 1)]
    # A declaration and calls of it.
    t = Tool(rng, held)
    line = "to=functions." + t.name + " <|constrain|>json<|message|>" + t.arguments + "<|call|>"
    return [(H.namespace([t.spec]) + "\n" + t.question + "\n", 0), (line, 1)]


def lookups(rng, held=False):
    """Functions, then what is wanted and which of them it is, line by line: the choice among functions and nothing else."""
    declared = declare(rng, held, between(rng, 2, 6), pick(rng, [0, 0, 0, 1]), STRANGE)
    r = rng.random()
    if r < 0.25:
        out = [(pick(rng, [", ", "\n", " "]).join(d.name for d in declared) + "\n\n", 0)]
    else:
        out = [(H.namespace([d.spec for d in declared]) + "\n", 0)]
    word = pick(rng, [": call ", ": use "])
    for _ in range(1 if len(declared) > 3 else 2):
        for t in sorted(declared, key=lambda _: rng.random()):
            if r > 0.5:
                t.again(rng, held)
                out += [(t.question + "\n", 0)]
            out += [(t.noun, NOUN_WEIGHT if r > 0.5 else 0), (word.rstrip(), 0), (" " + t.name, NAME_WEIGHT), (".\n", 0)]
    return out


def lines(rng, held=False):
    """Facts by the line, or small sums. Of an equation only the result is learned, of a question the whole answer."""
    if chance(rng, 0.6):
        facts = [reworded(rng, held, fact) for _ in range(between(rng, 4, 14))]
        return [piece for q, _, a in facts for piece in ((q + "\n", 0), (a, NOUN_WEIGHT), ("\n", 0))]
    asked, out = chance(rng, 0.4), []
    for _ in range(between(rng, 8, 24)):
        q, _, a = reworded(rng, held, small_sum) if asked else small_sum(rng, held)
        left, right = a.rstrip(".").split(" = ")
        out += [(q + "\n", 0), (left + " =", 1)] if asked else [(left + " =", 0)]
        out += [(" " + right, NAME_WEIGHT), ("\n", 0)]
    return out


# What the documents are made of: those the tokenizer learns from, the training's beginning and the rest. What is left is conversation.
STAGES = {"tokenizer": dict(repeat=0.01, drill=0.05, raw=0.05, tools=0.42, skills=SKILLS, counts=(1, 1, 1, 2, 2, 3, 4), noun_first=False),
          "early": dict(repeat=0.08, drill=0.16, raw=0.05, tools=0.31, skills=SKILLS, counts=(1, 1, 1, 2, 2, 3, 4), noun_first=False),
          "late": dict(repeat=0.01, drill=0.04, raw=0.05, tools=0.42, skills=HARDER, counts=(1, 1, 2, 2, 3, 4), noun_first=True),
          "calls": dict(repeat=0.03, drill=0.03, raw=0.03, lookups=0.04, lines=0.09, errands=0.25, tools=0.10, strange=0.4, skills=REWORDED, counts=(1, 1, 2, 3, 4, 4), noun_first=True),
          "again": dict(repeat=0.01, drill=0.03, raw=0.04, lookups=0.03, lines=0.05, errands=0.17, tools=0.14, strange=0.4, skills=ALL_AGAIN, counts=(1, 1, 2, 3, 4, 4), noun_first=True)}


def document(rng, held=False, stage="late"):
    """A document, or None where the training puts one of random tokens that repeat."""
    r, shares = rng.random(), STAGES[stage]
    makers = {"repeat": lambda: None, "drill": lambda: drill(rng, held), "raw": lambda: raw(rng, held), "lookups": lambda: lookups(rng, held), "lines": lambda: lines(rng, held),
              "errands": lambda: errands(rng, held), "tools": lambda: tools(rng, held, counts=shares["counts"], noun_first=shares["noun_first"], strange=shares.get("strange", 0))}
    for name, make in makers.items():
        if r < shares.get(name, 0):
            return make()
        r -= shares.get(name, 0)
    return conversation(rng, held, skills=shares["skills"])


def sample_texts(rng, n=4000):
    """What the tokenizer is trained on."""
    for _ in range(n):
        document_ = document(rng, stage="tokenizer")
        if document_:
            yield "".join(t for t, _ in document_)


# Words that calls copy out of questions: the tokenizer keeps them apart from the space before them.
COPIED = {w.lower() for s in [TOOL_VERBS, TOOL_NOUNS, TOOL_ARGS, TOOL_ARGS_2, HELD_TOOL_VERBS, HELD_TOOL_NOUNS, HELD_TOOL_ARGS, HELD_TOOL_ARGS_2, NAMES, HELD_NAMES, THINGS, FOODS,
                                ANIMALS, ADJS, PLACES, COLOUR_WORDS, NUMBERS, RESULT_KEYS, RESULT_WORDS, [o for e in ENUMS.values() for p in e for o in p]]
          for x in s for w in re.split(r"[_ ]", x)} | {w.lower() for c in CAPITALS.values() for w in c.split()}


if __name__ == "__main__":
    g = random.Random(1)
    for _ in range(30):
        print("".join(("\033[1m%s\033[0m" if learn else "%s") % text for text, learn in document(g) or [("(repeated tokens)", 1)]), "\n")
