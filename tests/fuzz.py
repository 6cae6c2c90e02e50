"""The properties that hypothesis tests, driven by atheris, which sees what code an input reaches.

    pip install atheris
    python -m tests.fuzz decoder -len_control=0 -max_total_time=60

The options are libFuzzer's. It stops at the first input that breaks a property, and leaves it in
a file that, given instead of the time, plays it again.
"""

from __future__ import annotations

import gc
import sys
from types import FunctionType
from typing import Final

import atheris

from tests.unit import test_junk, test_junk_input

TARGETS: Final = {
    "decoder": test_junk.test_whatever_arrives_is_decoded_or_refused,
    "encoder": test_junk.test_whatever_is_encoded_becomes_sound_and_the_next_does_too,
    "lengths": test_junk_input.test_a_length_is_one_frame_or_more_and_finite,
    "commands": test_junk_input.test_a_command_line_is_read_or_is_wrong_usage,
    "remotes": test_junk_input.test_a_daemon_is_looked_for_where_any_environment_says,
    "files": test_junk_input.test_a_sound_file_is_played_or_refused_in_one_line,
    "dumps": test_junk_input.test_whatever_pw_dump_prints_is_read_as_what_it_holds,
}


def main() -> None:
    """Fuzz the target that is named first."""
    if sys.argv[1:2] == [] or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [-max_total_time=60] [FILE]")
    target = TARGETS[sys.argv.pop(1)]
    # One by one: atheris's import hook does not reach into an editable install.
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and str(function.__module__).startswith("stagebox"):
            atheris.instrument_func(function)
    atheris.Setup(sys.argv, target.hypothesis.fuzz_one_input)  # type: ignore[attr-defined]
    atheris.Fuzz()


if __name__ == "__main__":
    main()
