from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyfakefs.fake_filesystem import FakeFilesystem

from factflow_infra.storage.filesystem import FilesystemStorageProvider, listing, steps
from factflow_infra.storage.filesystem.tree import Tree
from factflow_infra_testing.storage.disk import DiskOs

SEGMENT = st.text(st.sampled_from("ab.-/0é\U0001f600\uffee"), min_size=1, max_size=3)


def build(keys):
    """A disk with those of ``keys`` that can stand together."""
    filesystem = FakeFilesystem()
    filesystem.create_dir("/data")
    kept = []
    for key in keys:
        if any(part in {"", ".", ".."} for part in key.split("/")):
            continue
        if any(key == one or one.startswith(f"{key}/") or key.startswith(f"{one}/") for one in kept):
            continue
        kept.append(key)
        filesystem.create_file(f"/data/{key}")
        filesystem.create_file(f"/data/{key}.meta.json")
    return DiskOs(filesystem), sorted(kept, key=str.encode)


def expected_page(keys, prefix, delimiter, limit, after):
    """The page as S3 defines it, over a plain sorted list."""
    items = []
    for key in keys:
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        item = (key[: cut + len(delimiter)], True) if cut >= 0 else (key, False)
        if after is not None and (item[0] <= after or (not item[1] and key <= after)):
            continue
        if item not in items:
            items.append(item)
    page = items[:limit]
    more = page[-1][0] if len(items) > limit else None
    return tuple(k for k, common in page if not common), tuple(k for k, common in page if common), more


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), keys=st.lists(SEGMENT | st.tuples(SEGMENT, SEGMENT, SEGMENT).map("/".join), max_size=12))
def test_lists_and_pages_agree_with_a_sorted_list(monkeypatch, data, keys):
    disk, stored = build(keys)
    monkeypatch.setattr(steps, "os", disk)
    monkeypatch.setattr(listing, "ROUND", data.draw(st.integers(1, 4), "names a round"))
    tree = Tree("/data")
    beginnings = sorted({key[:length] for key in stored for length in range(len(key) + 1)} | {""})
    prefix = data.draw(st.sampled_from(beginnings), "prefix")
    assert listing.Walk(tree, prefix).take(1000) == [key for key in stored if key.startswith(prefix)]
    delimiter = data.draw(st.sampled_from([None, "/", ".", "é", "//"]), "delimiter")
    limit = data.draw(st.integers(1, 4), "limit")
    after, found_keys, found_prefixes = None, [], []
    for _ in range(50):
        page = listing.page(tree, prefix, delimiter, limit, after)
        assert (page.keys, page.prefixes, page.next_after) == expected_page(stored, prefix, delimiter, limit, after)
        found_keys += page.keys
        found_prefixes += page.prefixes
        after = page.next_after
        if after is None:
            break
    whole = expected_page(stored, prefix, delimiter, 10**6, None)
    assert (tuple(found_keys), tuple(found_prefixes)) == whole[:2]
    assert not disk.descriptors


@pytest.mark.asyncio
async def test_an_arbitrary_position(tmp_path):
    async with FilesystemStorageProvider(tmp_path) as storage:
        for key in ("a/1", "a/2", "a.b", "b"):
            await storage.write(key, b"")
        assert (await storage.list_page(after="a/1")).keys == ("a/2", "b")
        assert (await storage.list_page(after="a/")).keys == ("a/1", "a/2", "b")
        assert (await storage.list_page(after="zzz")).keys == ()
        assert (await storage.list_page("a", after="")).keys == ("a.b", "a/1", "a/2")
        assert (await storage.list_page("nothing/here")).keys == ()
        assert (await storage.list_page("b/")).keys == ()


@pytest.mark.asyncio
async def test_what_other_tools_leave_is_not_listed_if_it_can_be_no_key(tmp_path):
    (tmp_path / "good").write_bytes(b"")
    with open(os.fsencode(tmp_path) + b"/bad-\xff", "wb"):  # noqa: ASYNC230, PTH123 - a name that is no text
        pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.meta.json").write_bytes(b"{}")
    async with FilesystemStorageProvider(tmp_path) as storage:
        assert [key async for key in storage.list()] == ["good"]
        assert (await storage.list_page(delimiter="/")).prefixes == ()


def test_a_large_folder_is_listed_in_the_memory_of_one_round(monkeypatch):
    count = 6_000
    names = [f"{number:06}" for number in range(count)]

    def entries(_descriptor):
        for number in range(count):
            yield f"{(number * 7919) % count:06}", False

    disk, _ = build([])
    monkeypatch.setattr(steps, "os", disk)
    monkeypatch.setattr(steps, "entries", entries)
    monkeypatch.setattr(listing, "ROUND", 500)
    walk = listing.Walk(Tree("/data"), "")
    tracemalloc.start()
    try:
        seen = 0
        while batch := walk.take(500):
            assert batch == names[seen : seen + len(batch)]
            seen += len(batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == count
    assert peak < 250_000  # all the names take more than 350 kB
