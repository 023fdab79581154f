#!/usr/bin/env python3
"""Compares the next three fires of 10,000 random expressions with croniter, in UTC, where both mean the same.

    pip install croniter
    python3 crates/scheduler/tests/oracle/croniter_check.py

Left out, because croniter means something else: clock changes (our own rule; see tests/oracle.rs), `+`, `W` and `?`; `#` and `5L`
together with other days; steps larger than their field, which croniter refuses; `*/n` as day of month or of week beside the other
field, which croniter takes for a field that says nothing or something, by version.
"""

import datetime
import random
import subprocess
import sys

from croniter import croniter

COUNT = 10_000
COMMAND = ["cargo", "run", "-q", "-p", "stakpak-scheduler", "--example", "next_fires"]


def item(rng, low, high):
    a, b = sorted((rng.randint(low, high), rng.randint(low, high)))
    kind = rng.random()
    if kind < 0.5 or a == b:  # croniter takes 5-5 for the whole field
        return str(a)
    if kind < 0.8 or b - a < 2:
        return f"{a}-{b}"
    return f"{a}-{b}/{rng.randint(1, b - a)}"


def field(rng, low, high, star=0.4, step=True):
    kind = rng.random()
    if kind < star:
        return "*"
    if step and kind < star + 0.1:
        return f"*/{rng.randint(2, high - low)}"
    return ",".join(item(rng, low, high) for _ in range(rng.randint(1, 3)))


def day_of_month(rng):
    return "L" if rng.random() < 0.05 else field(rng, 1, 31, 0.5, step=False)


def day_of_week(rng, alone):
    if alone and rng.random() < 0.15:
        return rng.choice(["L{}", "{}#1", "{}#2", "{}#3", "{}#4"]).format(rng.randint(0, 6))
    return field(rng, 0, 6, 0.5, step=False)


def expression(rng):
    day = day_of_month(rng)
    month = "*" if rng.random() < 0.7 else field(rng, 1, 12)
    return " ".join([field(rng, 0, 59), field(rng, 0, 23), day, month, day_of_week(rng, day == "*")])


def expected(text, start):
    # croniter writes the last Friday as L5.
    found = croniter(text, datetime.datetime.fromtimestamp(start, datetime.timezone.utc), max_years_between_matches=100)
    return " ".join(str(int(found.get_next(float))) for _ in range(3))


def main():
    rng = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    cases = [(expression(rng), rng.randint(1_600_000_000, 2_000_000_000)) for _ in range(COUNT)]
    ours = [" ".join(p[1:] + "L" if p.startswith("L") and len(p) > 1 else p for p in text.split()) for text, _ in cases]
    lines = "".join(f"{text}\tUTC\t{start}\n" for text, (_, start) in zip(ours, cases))
    answers = subprocess.run(COMMAND, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    different = skipped = 0
    for (text, start), answer in zip(cases, answers, strict=True):
        try:
            told = expected(text, start)
        except Exception as error:  # never fires
            skipped += 1
            if not (answer == "" or "never" in answer):
                print(f"{text!r} from {start}: croniter says {error}, we say {answer}")
            continue
        if told != answer:
            different += 1
            print(f"{text!r} from {start}: croniter {told}, we {answer}")
    print(f"{COUNT - skipped} compared, {skipped} that croniter refuses or never finds, {different} different")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
