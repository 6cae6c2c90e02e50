"""Write the C source of the Python extension from the declarations in stagebox.h.

Run by CMake: generate_binding.py stagebox.h binding.c
"""

import re
import sys
from pathlib import Path

from cffi import FFI

BEGIN, END = "/* binding: begin */", "/* binding: end */"


def declarations(header: str) -> str:
    """Return what stands between the header's two markers."""
    _, begin, rest = header.partition(BEGIN)
    body, end, _ = rest.partition(END)
    if not begin or not end:
        sys.exit(f"stagebox.h must hold its declarations between {BEGIN!r} and {END!r}")
    return re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)


def main(header: Path, output: Path) -> None:
    """Generate `output` from `header`."""
    ffi = FFI()
    ffi.cdef(declarations(header.read_text()))
    ffi.set_source("stagebox._stagebox", '#include "stagebox.h"', py_limited_api=True)
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
