"""The model of a power loss by itself: operations in, all legal states out, and no other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factflow_infra_testing.storage.crashes import Content, CrashModel, Survivor

ROOT = "root"


class Disk:
    """A disk of dicts, which tells a model what is done to it. Folders are named by text, files too."""

    def __init__(self, sector=4):
        self.model = CrashModel(sector)
        self.folders = {ROOT: {}}
        self.files = {}
        self.count = 0

    def entries(self, folder):
        return self.folders.get(folder)

    def content(self, file):
        return self.files[file]

    def create(self, name, folder=ROOT):
        self.count += 1
        node = f"file {self.count}"
        self.files[node] = b""
        self.model.entry(folder, name, self.folders[folder].get(name), node)
        self.folders[folder][name] = node
        return node

    def mkdir(self, name, folder=ROOT):
        self.count += 1
        node = f"folder {self.count}"
        self.folders[node] = {}
        self.model.entry(folder, name, None, node)
        self.folders[folder][name] = node
        return node

    def write(self, file, offset, data):
        old = self.files[file]
        self.model.write(file, offset, data, old)
        self.files[file] = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]

    def truncate(self, file, size):
        old = self.files[file]
        self.model.truncate(file, size, old)
        self.files[file] = old[:size].ljust(size, b"\0")

    def rename(self, source, target, here=ROOT, there=ROOT):
        node = self.folders[here].pop(source)
        self.model.rename(node, (here, source), (there, target), self.folders[there].get(target))
        self.folders[there][target] = node

    def unlink(self, name, folder=ROOT):
        self.model.entry(folder, name, self.folders[folder].pop(name), None)

    def survivors(self):
        return [shown(tree) for tree in self.model.survivors(ROOT, self)]


def shown(tree):
    return {name: shown(one) if isinstance(one, dict) else one.data for name, one in tree.items()}


def durable(disk, name, data):
    """A file that was there before."""
    node = disk.create(name)
    disk.write(node, 0, data)
    disk.model.sync(node)
    disk.model.sync(ROOT)
    return node


def kinds(states):
    return sorted(repr(state) for state in states)


def test_nothing_is_durable_by_itself():
    disk = Disk()
    disk.write(disk.create("a"), 0, b"1234")
    assert kinds(disk.survivors()) == kinds([{}, {"a": b""}, {"a": b"\0\0\0\0"}, {"a": b"1234"}])


def test_syncing_the_file_keeps_its_content_and_not_its_name():
    disk = Disk()
    file = disk.create("a")
    disk.write(file, 0, b"1234")
    disk.model.sync(file)
    assert kinds(disk.survivors()) == kinds([{}, {"a": b"1234"}])


def test_syncing_the_folder_keeps_the_name_and_not_the_content():
    disk = Disk()
    disk.write(disk.create("a"), 0, b"1234")
    disk.model.sync(ROOT)
    assert kinds(disk.survivors()) == kinds([{"a": b""}, {"a": b"\0\0\0\0"}, {"a": b"1234"}])


def test_a_write_is_torn_between_sectors_and_not_within_one():
    disk = Disk()
    durable(disk, "a", b"aaaabbbb")
    disk.write(disk.folders[ROOT]["a"], 0, b"AAAABBBB")
    assert kinds(disk.survivors()) == kinds([{"a": x + y} for x in (b"aaaa", b"AAAA") for y in (b"bbbb", b"BBBB")])


def test_an_append_may_leave_the_size_without_the_bytes_and_never_bytes_beyond_the_size():
    disk = Disk()
    durable(disk, "a", b"old")
    disk.write(disk.folders[ROOT]["a"], 3, b"12345")
    states = disk.survivors()
    assert {"a": b"old"} in states
    assert {"a": b"old\0\0\0\0\0"} in states
    assert {"a": b"old1"} in states
    assert {"a": b"old\0" + b"2345"} in states, "the second sector, and not the first"
    assert all(state["a"].startswith(b"old") for state in states), "nobody wrote there"


def test_a_cut_and_a_rewrite_may_mix():
    disk = Disk()
    file = durable(disk, "a", b"oldoldol")
    disk.truncate(file, 0)
    disk.write(file, 0, b"newn")
    states = disk.survivors()
    for data in (b"oldoldol", b"", b"newn", b"newnldol", b"oldo"):
        assert {"a": data} in states, data


def test_a_rename_is_old_or_new_or_both_and_never_neither():
    disk = Disk()
    durable(disk, "a", b"new")
    durable(disk, "b", b"old")
    disk.rename("a", "b")
    assert kinds(disk.survivors()) == kinds(
        [{"a": b"new", "b": b"old"}, {"a": b"new", "b": b"new"}, {"b": b"new"}],
    )
    disk.model.sync(ROOT)
    assert disk.survivors() == [{"b": b"new"}]


def test_a_rename_between_folders_needs_both_synced():
    disk = Disk()
    there = disk.mkdir("there")
    durable(disk, "a", b"x")
    disk.rename("a", "b", ROOT, there)
    assert kinds(disk.survivors()) == kinds(
        [{"a": b"x", "there": {}}, {"there": {"b": b"x"}}, {"a": b"x", "there": {"b": b"x"}}]
    )
    half = Disk()
    there = half.mkdir("there")
    durable(half, "a", b"x")
    half.rename("a", "b", ROOT, there)
    half.model.sync(there)
    assert kinds(half.survivors()) == kinds([{"there": {"b": b"x"}}, {"a": b"x", "there": {"b": b"x"}}])
    disk.model.sync(ROOT)  # that the old name is gone is durable: the new one is, too
    assert disk.survivors() == [{"there": {"b": b"x"}}]


def test_what_is_in_a_folder_is_lost_with_its_name():
    disk = Disk()
    inner = disk.mkdir("folder")
    file = disk.create("a", inner)
    disk.write(file, 0, b"x")
    disk.model.sync(file)
    disk.model.sync(inner)
    assert kinds(disk.survivors()) == kinds([{}, {"folder": {"a": b"x"}}])


def test_a_removal_is_not_durable_before_the_folder_is_synced():
    disk = Disk()
    durable(disk, "a", b"x")
    disk.unlink("a")
    assert kinds(disk.survivors()) == kinds([{}, {"a": b"x"}])
    disk.model.sync(ROOT)
    assert disk.survivors() == [{}]


def test_after_a_failed_sync_the_next_one_lies():
    disk = Disk()
    file = durable(disk, "a", b"aaaabbbb")
    disk.write(file, 0, b"AAAA")
    disk.model.fail_sync(file)
    disk.model.sync(file)
    assert kinds(disk.survivors()) == kinds([{"a": b"aaaabbbb"}, {"a": b"AAAABBBB".replace(b"BBBB", b"bbbb")}])
    disk.write(file, 4, b"BBBB")  # written and synced after it: that is durable
    disk.model.sync(file)
    assert kinds(disk.survivors()) == kinds([{"a": b"aaaaBBBB"}, {"a": b"AAAABBBB"}])
    disk.write(file, 0, b"AAAA")  # the same bytes once more: now they are
    disk.model.sync(file)
    assert disk.survivors() == [{"a": b"AAAABBBB"}]


def test_one_may_ask_not_to_look_into_a_name():
    disk = Disk()
    disk.write(disk.create(".tmp"), 0, b"12345678")
    assert len(disk.survivors()) > 4
    assert len(list(disk.model.survivors(ROOT, disk, opaque=lambda name: name == ".tmp"))) == 2


def test_a_sector_has_a_size():
    with pytest.raises(ValueError, match="at least 1 byte"):
        CrashModel(0)


NAMES = st.sampled_from(["a", "b", "c"])
OPERATION = st.one_of(
    st.tuples(st.just("put"), NAMES, st.integers(0, 6), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("cut"), NAMES, st.integers(0, 6)),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("drop"), NAMES),
    st.tuples(st.just("sync"), NAMES),
    st.tuples(st.just("sync all")),
)


def carry_out(disk, operations):
    for kind, *arguments in operations:
        names = disk.folders[ROOT]
        if kind == "sync all":
            disk.model.sync(ROOT)
        elif kind == "put":
            name, offset, data = arguments
            disk.write(names[name] if name in names else disk.create(name), offset, data)
        elif arguments[0] not in names:
            continue
        elif kind == "cut":
            disk.truncate(names[arguments[0]], arguments[1])
        elif kind == "move" and arguments[0] != arguments[1]:
            disk.rename(*arguments)
        elif kind == "drop":
            disk.unlink(arguments[0])
        elif kind == "sync":
            disk.model.sync(names[arguments[0]])


@settings(max_examples=150, deadline=None)
@given(operations=st.lists(OPERATION, max_size=6), choices=st.lists(st.integers(0, 10**6), min_size=40, max_size=40))
def test_what_stands_may_survive_and_what_is_lost_by_chance_is_a_legal_state(operations, choices):
    disk = Disk()
    carry_out(disk, operations)
    states = disk.survivors()
    stands = {name: disk.files[node] for name, node in disk.folders[ROOT].items()}
    assert stands in states
    every = [repr(tree) for tree in disk.model.survivors(ROOT, disk)]
    assert len(every) == len(set(every)), "each once"
    drawn = itertools.cycle(choices)
    names, contents = disk.model.lose(lambda count, _node, _part: next(drawn) % count)
    after = {**disk.folders[ROOT], **names.get(ROOT, {})}
    left = {name: contents.get(node, disk.files[node]) for name, node in after.items() if node is not None}
    assert left in states
    assert not disk.model, "what is left after a power loss is durable"


@settings(max_examples=100, deadline=None)
@given(operations=st.lists(OPERATION, max_size=8))
def test_what_is_all_synced_is_all_there(operations):
    disk = Disk()
    carry_out(disk, operations)
    for node in [ROOT, *disk.folders[ROOT].values()]:
        disk.model.sync(node)
    assert disk.survivors() == [{name: disk.files[node] for name, node in sorted(disk.folders[ROOT].items())}]


def test_a_content_composes_what_it_lays_out():
    content = Content(b"aaaabbbb", 4)
    content.write(4, b"BBBBcc")
    layout = content.layout()
    assert layout.sizes == (8, 10)
    assert layout.compose(8, (0, 0, 0)) == b"aaaabbbb"
    content.truncate(8)
    assert content.layout().sizes == (8, 10, 8), "what was synced is first, what stands is last"
    assert layout.compose(10, (0, 1, 1)) == b"aaaaBBBBcc"
    assert layout.compose(8, (0, 0, 0)) == b"aaaabbbb"
    assert Survivor("n", b"") == Survivor("n", b"")
