"""The package installs and imports where it cannot work, and says what is missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from scikit_build_core.settings.skbuild_read_settings import SettingsReader

import stagebox
import stagebox._stagebox
from tests.conftest import untraced

ROOT = Path(__file__).parents[2]
PACKAGE = Path(stagebox.__file__).parent

# In place of a library that is there: a soname of the same length that no system has.
PIPEWIRE, NO_PIPEWIRE = b"libpipewire-0.3.so.0", b"libpipewire-9.9.so.9"


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter that finds stagebox in `path`, not where it is installed."""
    program = (
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in type(f).__module__]\n"
        f"sys.path[:0] = {[str(p) for p in path]!r}\n" + code
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, without its extension."""
    shutil.copytree(PACKAGE, tmp_path / "stagebox", ignore=shutil.ignore_patterns("*.so"))
    return tmp_path


def test_it_imports_without_libpipewire_and_the_first_open_says_what_to_install(
    copy: Path,
) -> None:
    extension = Path(stagebox._stagebox.__file__)
    patched = extension.read_bytes().replace(PIPEWIRE, NO_PIPEWIRE)
    assert NO_PIPEWIRE in patched
    (copy / "stagebox" / extension.name).write_bytes(patched)
    done = run(
        "import stagebox\n"
        "for opener in stagebox.open_audio_capture, stagebox.open_virtual_mic:\n"
        "    try: opener()\n"
        "    except stagebox.PipeWireUnavailable as error: print(error)\n",
        copy,
    )
    assert done.stderr == ""
    assert done.stdout.count("install it: libpipewire-0.3-0 on Debian") == 2
    assert "libpipewire-9.9.so.9" in done.stdout


def test_elsewhere_than_on_linux_it_imports_and_every_open_says_so(copy: Path) -> None:
    done = run(
        "sys.platform = 'darwin'\n"
        "import stagebox\n"
        "for opener in stagebox.open_audio_capture, stagebox.open_virtual_mic:\n"
        "    try: opener()\n"
        "    except stagebox.UnsupportedPlatform as error: print(error)\n",
        copy,
    )
    assert done.stderr == ""
    assert done.stdout == "stagebox needs Linux and PipeWire; this is darwin\n" * 2


def test_import_loads_neither_the_extension_nor_opus() -> None:
    done = run(
        "import stagebox\n"
        "print([m for m in sys.modules if m in ('stagebox._stagebox', 'opuslib', 'pytest')])\n",
        PACKAGE.parent,
    )
    assert done.stderr == ""
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("platform", "extension"), [("linux", True), ("darwin", False), ("win32", False)]
)
def test_the_extension_is_built_on_linux_alone(
    monkeypatch: pytest.MonkeyPatch, platform: str, extension: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    settings = SettingsReader.from_file(ROOT / "pyproject.toml", {}).settings
    assert settings.wheel.cmake is extension


def test_a_wheel_for_another_system_is_pure_python_and_whole(tmp_path: Path) -> None:
    # What the overrides in pyproject.toml choose where the platform is not Linux.
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("-C", "wheel.cmake=false", "-C", "wheel.py-api=py3", "-w", tmp_path, ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("stagebox/")}
    source = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".so"}
    }
    assert names == source
    done = run("import stagebox; print(stagebox.__file__)", wheel)
    assert done.stdout.strip().startswith(str(wheel))


def test_logging_is_silent_by_default() -> None:
    done = run(
        "import logging, stagebox\nlogging.getLogger('stagebox.pump').warning('heard?')\n",
        PACKAGE.parent,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_ctrl_c_while_the_program_starts_is_no_traceback() -> None:
    for delay in (0.05, 0.1, 0.2, 0.3):
        with subprocess.Popen(
            # as the installed script does; the sign that it has begun is the interpreter's own
            [
                sys.executable,
                "-c",
                "import stagebox_command as c, sys; print(flush=True); sys.exit(c.main())",
                *("record", "-", "--remote", "/nonexistent"),
            ],
            env=untraced(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout
            program.stdout.readline()
            time.sleep(delay)
            program.send_signal(signal.SIGINT)
            _, errors = program.communicate(timeout=20)
        assert "Traceback" not in errors
        # it may have failed by then, or be so near its end that nothing answers any more
        assert program.returncode in {130, 1, -signal.SIGINT}


def test_the_extension_is_for_every_cpython_from_3_11() -> None:
    assert Path(stagebox._stagebox.__file__).name == "_stagebox.abi3.so"


def test_the_extension_shows_nothing_but_its_entry_point() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", stagebox._stagebox.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    symbols = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert symbols <= {"PyInit__stagebox", "_cffi_pypyinit__stagebox", "_init", "_fini"}


def readelf(*tables: str) -> str:
    """What readelf says of the extension."""
    return subprocess.run(
        ["readelf", "--wide", *tables, stagebox._stagebox.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_extension_is_hardened() -> None:
    listing = readelf("--dynamic", "--program-headers")
    assert "BIND_NOW" in listing
    assert "GNU_RELRO" in listing
    (stack,) = [line for line in listing.splitlines() if "GNU_STACK" in line]
    assert " RW " in stack


def test_the_extension_needs_libpipewire_and_libc_alone_wherever_the_system_has_them() -> None:
    listing = readelf("--dynamic")
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", listing))
    sanitizers = {name for name in needed if re.match(r"lib(a|ub|t)san\.", name)}
    assert needed - sanitizers == {PIPEWIRE.decode(), "libc.so.6"}
    assert "RPATH" not in listing
    assert "RUNPATH" not in listing


def test_a_wheel_is_never_checked_on_fewer_pythons_than_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "check_wheel.py", "3.11", "3.98", "3.99"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"no CPython .*3\.98, 3\.99 on PATH", done.stderr)


def test_no_code_asks_pipewire_for_its_version_but_to_tell_it() -> None:
    asks = re.compile(r"(library|headers|check)_version|PW_CHECK_VERSION|PW_(MAJOR|MINOR|MICRO)\b")
    sources = [*ROOT.glob("csrc/*.[ch]"), *ROOT.glob("python/**/*.py")]
    assert len(sources) > 20
    texts = {path.name: path.read_text() for path in sources}
    assert sum(len(asks.findall(text)) for text in texts.values()) == 1
    assert "version(void)\n{\n    return pw_get_library_version();\n}" in texts["connection.c"]
    uses = {name for name, text in texts.items() if "libpipewire_version(" in text}
    assert uses == {"connection.c", "stagebox.h", "_native.py", "graph.py", "checks.py"}


INSTALL = ROOT / "scripts" / "install-system-packages"


def test_where_all_packages_are_there_setting_up_does_and_says_nothing() -> None:
    done = subprocess.run([INSTALL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_on_another_distribution_setting_up_names_the_packages_and_stops(tmp_path: Path) -> None:
    done = subprocess.run(
        [INSTALL], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not a Debian system" in done.stderr
    assert "pipewire-devel" in done.stderr


def test_every_exported_name_is_there() -> None:
    assert all(hasattr(stagebox, name) for name in stagebox.__all__)
