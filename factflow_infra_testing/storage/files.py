"""A disk in memory for simulated runs: cheap to begin anew, and a fence around the real one.

    with SimulatedFilesystem() as files:            # once a search
        for run in runs:
            with files.run():                       # an empty disk; patched in from here to the end of the block
                FilesystemStorageProvider(files.root)

Inside ``run`` the file functions of every module (``open``, ``os``, ``pathlib``, ``io``, ``shutil``) act on the fake disk;
outside, Hypothesis and pytest see the real one. Setting pyfakefs up costs 20 ms and is done once; pausing, resuming and
emptying it cost well under 1 ms a run. The provider's own system calls go straight to the same disk (``disk.py``).

The fence: as long as a run lasts, an audit hook raises ``RealDiskError`` for whatever still reaches the real disk: each
change, and each reading outside the interpreter's own files (modules that are imported late, package data, time zones). In a
run without a simulated disk it does so for the changes that processes under test make (``fenced``).
The audit hook is the interpreter's, so C code and unpatched modules meet it too. What it does not see: descriptors that
were open before.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import sysconfig
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from factflow_infra_testing.simulation.entropy import active_world
from factflow_infra_testing.simulation.owners import current_owner
from factflow_infra_testing.simulation.patches import session
from factflow_infra_testing.storage.disk import DiskFcntl, DiskOs
from factflow_infra_testing.storage.power import lose
from factflow_infra_testing.storage.watch import DiskWatch, path_of, watched

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import ModuleType
    from typing import Self

DEFAULT_ROOT = "/storage"

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# This package works on the fake disk by itself; the libraries read data files of their own, which lie on the real disk.
_REAL = ("factflow_infra_testing.storage", "boto3", "botocore", "certifi", "moto", "py_partiql_parser", "responses")
# They bind the functions of ``os`` when they are imported, so they are bound anew, once to each disk.
_IMPORTS: Any = sys.modules["_frozen_importlib_external"]
_BINDING = ("aiofiles.ospath", "aiofiles.os")
# Not those of ``shutil``: pyfakefs runs the real one, over its own ``os``.
_CHANGES = {
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
    "os.utime", "os.setxattr", "os.removexattr",
}  # fmt: skip
_READINGS = {"os.listdir", "os.scandir"}


class RealDiskError(Exception):
    """Code in a simulated run reached for the real disk."""


class SimulatedFilesystem:
    """The disk of a simulated machine. Only one at a time can be entered in a process.

    ``root``: the folder for a provider; it exists in every new run. ``size``: bytes that fit on the disk, or no limit.
    """

    def __init__(self, *, root: str = DEFAULT_ROOT, size: int | None = None) -> None:
        if not root.startswith("/") or root == "/":
            raise ValueError(f"the root must be an absolute path below '/', not {root!r}")
        self.root = root
        self._size = size
        self._patcher: Any = None
        self._disk: DiskOs | None = None
        self.watch = DiskWatch()
        self._active = False
        self._modules = 0
        self._bound: list[_Bound] = []

    @property
    def filesystem(self) -> Any:
        """The ``FakeFilesystem`` of pyfakefs."""
        if self._patcher is None:
            raise RuntimeError("enter the SimulatedFilesystem first: with SimulatedFilesystem() as files: ...")
        return self._patcher.fs

    @property
    def disk(self) -> DiskOs:
        """What the provider's system calls go to."""
        if self._disk is None:
            raise RuntimeError("enter the SimulatedFilesystem first: with SimulatedFilesystem() as files: ...")
        return self._disk

    def __enter__(self) -> Self:
        if self._patcher is not None:
            raise RuntimeError("this SimulatedFilesystem is entered already")
        with ExitStack() as stack:
            stack.enter_context(session())  # what it imports lies on the real disk
            self._bound = [_Bound(sys.modules[name]) for name in _BINDING if name in sys.modules]
            self._patcher = _own_patcher()
            _leave_alone(self._patcher)
            self._patcher.setUp()
            self._patcher.stop_patching()
            self._modules = len(sys.modules)
            self._disk = DiskOs(self._patcher.fs, self.watch)
            self.reset()
            self._session = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        patcher, self._patcher, self._disk = self._patcher, None, None
        with self._session:
            patcher.tearDown()

    def reset(self) -> None:
        """An empty disk with only the root folder, and nothing open."""
        filesystem = self.filesystem
        filesystem.reset(total_size=self._size, init_pathlib=False)
        filesystem.makedirs(self.root, exist_ok=True)
        self.disk.reset()
        self.watch.reset()

    def folder(self, host: str) -> str:
        """The folder of the machine ``host``, which was there before the run."""
        path = f"{self.root}/{host}"
        with self.watch.durable():
            self.filesystem.makedirs(path, exist_ok=True)
        return path

    def lose_power(self, host: str, choice: int) -> list[str]:
        """What the disk of ``host`` holds after a power loss; ``choice`` says what of the unsynced survives (``power.py``).

        Files outside the folders of the machines are on the disk of each of them. What is no more as it was, a line each.
        """
        own, machines = f"{self.root}/{host}/", f"{self.root}/"

        def concerns(node: Any) -> bool:
            path = f"{path_of(node)}/"
            return path.startswith(own) or not path.startswith(machines)

        return lose(self.watch, choice, concerns)

    @contextmanager
    def run(self, *, fresh: bool = True) -> Generator[Self, None, None]:
        """Put the fake disk in the real one's place until the block ends. ``fresh=False`` keeps what lies on it."""
        if self._active:
            raise RuntimeError("a run is under way already")
        if fresh:
            self.reset()
        from factflow_infra.storage.filesystem import steps

        _fence()
        real = steps.os, steps.fcntl
        self._active = True
        # pyfakefs' pathlib is bound to one filesystem a process: to whichever was made last.
        importlib.import_module("pyfakefs.fake_pathlib").init_module(self.filesystem)
        if len(sys.modules) != self._modules:
            _leave_alone(self._patcher)
            self._patcher._find_modules()  # noqa: SLF001 - what was imported since; the others it knows
            self._modules = len(sys.modules)
        self._patcher.start_patching()
        _IMPORTS._io = _IoOfImports(_IMPORTS._io)  # noqa: SLF001 - see pins.INTERNALS; pyfakefs puts the real one back
        for module in self._bound:
            module.to_fake()
        _put(steps, self.disk, DiskFcntl(self.disk))
        _Fence.up, _Fence.root = True, self.root
        try:
            with watched(self.watch, self.filesystem):
                yield self
        finally:
            _Fence.up = False
            _keep_imported(self._patcher)
            for module in self._bound:
                module.to_real()
            _put(steps, *real)
            self._active = False


@contextmanager
def fenced() -> Generator[None, None, None]:
    """Around a run, whether it uses a simulated disk or not: its processes change nothing on the real one."""
    _fence()
    _Fence.around_processes = True
    try:
        yield
    finally:
        _Fence.around_processes = False


class _Fence:
    installed = False
    up = False
    around_processes = False
    root = ""
    """Of the disk of the run."""
    readable: tuple[str, ...] = ()


def _fence() -> None:
    """Install the audit hook, once a process: the interpreter has no way to take one out again. It sleeps between runs."""
    if _Fence.installed:
        return
    _Fence.installed = True
    places = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, "/usr/share/zoneinfo"}
    _Fence.readable = tuple(os.path.abspath(place) for place in places if place)  # noqa: PTH100 - text, no disk
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not (_Fence.up or _Fence.around_processes) or not (event == "open" or event in _CHANGES or event in _READINGS):
        return
    path = arguments[0] if arguments else None
    text = os.fsdecode(path) if isinstance(path, (str, bytes)) else None
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        writes = bool(flags & _WRITING) if isinstance(flags, int) else bool(mode) and any(c in mode for c in "wax+")
    else:
        writes = event in _CHANGES
    compiled = sys.pycache_prefix or "__pycache__"  # where the interpreter keeps what it compiled
    if not text or text.startswith("/dev/") or compiled in text or "__pycache__" in text:
        return
    if not _Fence.up and not (writes and current_owner() is not None and active_world() is not None):
        return
    if not writes and text.startswith((*_Fence.readable, *(place for place in sys.path if place))):
        return
    if f"{text}/".startswith(f"{_Fence.root}/") and _Fence.up:
        advice = (
            "That path is on the simulated disk, and the function is of the real one: it was looked up before the simulated disk was "
            "there. Import os, pathlib and the like at the top of the module, or take the path first, on a line of its own: "
            "folder = process.disk()"
        )
    else:
        advice = (
            "Files of the code under test belong on the simulated disk (process.disk(), process.storage()); what it needs from the "
            "real one must be read before the run"
        )
    raise RealDiskError(f"code in a simulated run reached for the real disk: {event} {text!r}. {advice}")


class _IoOfImports:
    """The fake ``_io``, but for descriptors, which are of the real disk: from Python 3.14 on it is written so what an import has compiled.

    On the fake disk the same number is another file, or none.
    """

    def __init__(self, fake: Any) -> None:
        self._fake = fake

    def open(self, file: Any, *arguments: Any, **options: Any) -> Any:
        opener: Any = io.open if isinstance(file, int) else self._fake.open
        return opener(file, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fake, name)


class _Bound:
    """A module that binds functions when it is imported: its namespace on the real disk and, made once, on the fake one."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._real = dict(vars(module))
        self._fake: dict[str, Any] | None = None

    def to_fake(self) -> None:
        if self._fake is None:
            importlib.reload(self._module)
            self._fake = dict(vars(self._module))
        else:
            vars(self._module).update(self._fake)

    def to_real(self) -> None:
        vars(self._module).update(self._real)


def _keep_imported(patcher: Any) -> None:
    """End the patching, and keep the modules that were imported under it: pyfakefs would have them imported once more.

    Two of a module are two of each of its classes. What such a module has of the fake modules is replaced by the real ones,
    and it is patched as all others from the next run on. Only where it took single functions or classes of theirs, it is
    left to be imported anew.
    """
    finder = patcher._dyn_patcher  # noqa: SLF001 - it has no other way to be told
    names: set[str] = finder._loaded_module_names  # noqa: SLF001
    real = {id(fake): finder.sysmodules.get(name) for name, fake in patcher.fake_modules.items()}
    back: list[tuple[ModuleType, str, Any]] = []
    for name in list(names):
        module = sys.modules.get(name)
        if module is None:
            continue
        items = list(vars(module).items())
        if any(_is_fake(value) for _, value in items if id(value) not in real):
            continue
        names.discard(name)
        back += [(module, key, real[id(value)]) for key, value in items if real.get(id(value)) is not None]
    patcher.stop_patching()
    for module, key, value in back:
        vars(module)[key] = value


def _is_fake(value: object) -> bool:
    origin = value if isinstance(value, type) else type(getattr(value, "__self__", None))
    return origin.__module__.startswith("pyfakefs.")


def _put(module: Any, system: Any, locks: Any) -> None:
    module.os, module.fcntl = system, locks


def _own_patcher() -> Any:
    """A patcher whose class-wide state is its own.

    pyfakefs keeps one patcher for everybody, which its pytest plugin resumes before each test and its ``fs`` fixture gives
    out, and one record of what to patch. A subclass keeps both to itself.
    """
    return _own_kind()(allow_root_user=True)


@cache
def _own_kind() -> Any:
    # Kept, as is its record of which modules have what to patch: to look through all of them takes 0.1 s.
    kind: Any = importlib.import_module("pyfakefs.fake_filesystem_unittest").Patcher
    own: Any = type("_OwnPatcher", (kind,), {"PATCHER": None, "REF_COUNT": 0, "SKIPMODULES": set(kind.SKIPMODULES)})
    own.clear_fs_cache()
    return own


def _leave_alone(patcher: Any) -> None:
    """Keep the modules of ``_REAL`` on the real disk.

    By pyfakefs' list of modules, not by its list of names: with names every patched call inspects the stack, and a name
    does not stand for the modules below it.
    """
    below = tuple(f"{name}." for name in _REAL)
    patcher.SKIPMODULES.update(
        module for name, module in list(sys.modules.items()) if name in _REAL or name.startswith(below)
    )
