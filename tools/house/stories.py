"""A grammar for short children's stories, rich enough not to repeat itself."""
from words import *


def pick(rng, seq):
    return seq[int(rng.random() * len(seq))]


def an(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def sentence(rng):
    n, m = pick(rng, NAMES), pick(rng, NAMES)
    return pick(rng, [
        "The {a} {b} slept in the {p}.", "{n} found {t} near the {p}.", "It was a {w} day in the {p}.", "{n} and {m} ate {f} together.",
        "The {b} ran to the {p} and back.", "A {c} {u} lay on the ground.", "{n} liked to sing in the {p}.", "In the evening the {b} told a story.",
        "The {p} was quiet.", "{m} gave {n} some {f}.", "The {b} had a {c} {u}.", "Nobody knew where the {u} was.", "{n} laughed and the {b} laughed too.",
        "The {a} {b} looked at the {p}.", "They walked to the {p} on a {w} morning.", "{n} was {a}, but {m} was not.",
    ]).format(a=pick(rng, ADJS), b=pick(rng, ANIMALS), p=pick(rng, PLACES), t=an(pick(rng, COLOUR_WORDS) + " " + pick(rng, THINGS)), u=pick(rng, THINGS),
              w=pick(rng, WEATHER), f=pick(rng, FOODS), c=pick(rng, COLOUR_WORDS), n=n, m=m)


def story(rng, hero, short=False):
    name, friend_name = pick(rng, NAMES), pick(rng, NAMES)
    while friend_name == name:
        friend_name = pick(rng, NAMES)
    friend = pick(rng, ANIMALS)
    she = rng.random() < 0.5
    k = dict(h=hero, n=name, f=friend, fn=friend_name, ah=an(pick(rng, ADJS) + " " + hero), a=pick(rng, ADJS), a2=pick(rng, ADJS), p=pick(rng, PLACES),
             p2=pick(rng, PLACES), t=pick(rng, THINGS), c=pick(rng, COLOUR_WORDS), w=pick(rng, WEATHER), w2=pick(rng, WEATHER), food=pick(rng, FOODS),
             S="She" if she else "He", s="she" if she else "he", her="her" if she else "his", him="her" if she else "him")
    k["ct"] = an(k["c"] + " " + k["t"])
    out = [pick(rng, ["Once upon a time there was {ah} named {n}.", "Once there was {ah} called {n}.", "In a {p} lived {ah} named {n}.",
                      "There once was {ah}. {S} was called {n}.", "Once upon a time, {ah} named {n} lived near the {p}.", "{n} was {ah} who lived in the {p}."])]
    out += [pick(rng, ["{S} liked to play in the {p}.", "{S} loved {food} more than anything.", "Every day {s} walked to the {p}.", "{S} had {ct}.",
                       "{S} was always {a}.", "{S} lived there with {her} mother."])]
    problem = int(rng.random() * 6)
    middle = [
        ["One {w} day {n} lost {her} {t}.", "{S} looked in the {p2}, but it was not there.", "Then {s} met {fn} the {f}.",
         "\"Have you seen my {t}?\" asked {n}.", "\"Yes,\" said {fn}, \"it is in the {p}.\"", "They went together and found the {c} {t}."],
        ["One {w} morning {n} saw {ct} in the {p2}.", "\"Whose {t} is this?\" {s} asked.", "{fn} the {f} came and began to cry.", "\"It is mine,\" said {fn}.",
         "{n} gave it back with a smile.", "{fn} was very happy and shared {her} {food}."],
        ["One day it was very {w2} and {n} was hungry.", "There was no {food} at home.", "So {s} went to the {p2} to look for some.", "There {fn} the {f} was making {food}.",
         "\"Come and eat with me,\" said {fn}.", "They ate until they were full."],
        ["One day {n} wanted to see the {p2}.", "The way was long and the day was {w2}.", "On the way {s} met {fn}, a {a2} {f}.", "\"May I come with you?\" asked {fn}.",
         "\"Of course,\" said {n}.", "They walked and sang all day, and at last they saw the {p2}."],
        ["One night {n} heard a noise in the {p2}.", "{S} was afraid, but {s} took {her} {t} and went to look.", "It was only {fn}, the little {f}.",
         "\"I cannot sleep,\" said {fn}.", "{n} told {fn} a story about the {p}.", "Soon they both fell asleep."],
        ["One {w} day {fn} the {f} fell into a hole in the {p2}.", "\"Help!\" cried {fn}.", "{n} ran to get a {t}.", "{S} pulled and pulled.", "At last {fn} was free.",
         "\"Thank you, {n},\" said {fn}. \"You are very {a}.\""],
    ][problem]
    if short:
        middle = middle[:2] + middle[-2:] if rng.random() < 0.5 else middle
    out += middle
    if not short and rng.random() < 0.6:
        for _ in range(1 + int(rng.random() * 3)):
            out.insert(2 + int(rng.random() * (len(out) - 2)), sentence(rng).replace("{", "").replace("}", ""))
    out += [pick(rng, ["From that day on they were friends.", "And they were happy.", "{n} and {fn} became best friends.", "That evening {n} was very tired and happy.",
                       "\"This was a good day,\" said {n}.", "And so they played in the {p} every day.", "{n} learned that it is good to be {a2}."])]
    if rng.random() < 0.3:
        out.append("The end.")
    text = " ".join(out).format(**k)
    return text if short or rng.random() < 0.7 else text.replace(pick(rng, [". One", ". Then", ". At last"]), ".\n\nOne", 1) if ". One" in text else text
