"""The C extension, generated from csrc/stagebox.h."""

from typing import Any

from cffi import FFI

ffi: FFI
lib: Any
