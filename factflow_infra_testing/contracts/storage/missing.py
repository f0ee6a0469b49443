"""S4, copying and deleting: what is there, what is not, and what stays."""

from __future__ import annotations

from factflow_infra.errors import ObjectNotFoundError
from factflow_infra_testing.contracts.raising import raises
from factflow_infra_testing.contracts.storage.environment import StorageEnvironment, collected
from factflow_infra_testing.contracts.storage.table import STORAGE_BEHAVIOURS


@STORAGE_BEHAVIOURS.add("S4", like=("gocdk/TestRead",))
async def missing_key_is_said_to_be_missing(env: StorageEnvironment) -> None:
    """``read``, ``get``, ``stat``, ``copy`` and ``stream`` raise ``ObjectNotFoundError`` with the key; ``exists`` is false; a
    prefix of a key is no object.
    """
    store = await env.provider()
    await store.write(env.key("dir/x"), b"x")
    for name in ("nothing", "dir", "dir/x2", "no/such/dir/x", "dir/x.meta", "DIR/X"):
        key = env.key(name)
        calls = (
            lambda key=key: store.read(key),
            lambda key=key: store.get(key),
            lambda key=key: store.stat(key),
            lambda key=key: store.copy(key, env.key("target")),
            lambda key=key: collected(store.stream(key)),
        )
        for call in calls:
            with raises(ObjectNotFoundError) as caught:
                await call()
            assert key in str(caught.value)
            assert not caught.value.retryable
        assert await store.exists(key) is False
    assert await env.keys(store) == ["dir/x"]


@STORAGE_BEHAVIOURS.add("S4", like=("gocdk/TestDelete",))
async def delete_removes(env: StorageEnvironment) -> None:
    """Deleted: not there, not listed, metadata gone with it; its neighbours stay. Go CDK makes the delete of a missing key an
    error, and obstore's stores differ: here it is none.
    """
    store, other = await env.provider(), await env.provider()
    for name in ("a", "dir/a", "dir/b"):
        await store.write(env.key(name), b"x", {"name": name})
    await store.delete(env.key("dir/a"))
    assert not await other.exists(env.key("dir/a"))
    with raises(ObjectNotFoundError):
        await other.read(env.key("dir/a"))
    assert await env.keys(other) == ["a", "dir/b"]
    await store.delete(env.key("dir/a"))
    await store.delete(env.key("never/was"))
    await store.delete(env.key("dir"))
    assert await env.keys(other) == ["a", "dir/b"]
    await store.delete(env.key("dir/b"))
    await store.write(env.key("dir/a"), b"again")
    assert dict((await store.stat(env.key("dir/a"))).metadata) == {}


@STORAGE_BEHAVIOURS.add("S4")
async def emptied_prefix_can_be_a_key(env: StorageEnvironment) -> None:
    """After ``dir/x`` is deleted ``dir`` can be an object: an empty folder must not stand in its way; and the reverse."""
    store = await env.provider()
    await store.write(env.key("dir/sub/x"), b"1")
    await store.delete(env.key("dir/sub/x"))
    await store.write(env.key("dir"), b"2")
    assert await env.keys(store) == ["dir"]
    await store.delete(env.key("dir"))
    await store.write(env.key("dir/x"), b"3")
    assert await env.keys(store) == ["dir/x"]


@STORAGE_BEHAVIOURS.add("S4", like=("gocdk/TestCopy",))
async def copy_copies_everything(env: StorageEnvironment) -> None:
    """Data, metadata and type, to a new key and over an old one; the source stays; later changes to it do not show."""
    store, source = await env.provider(), env.key("source")
    metadata = {"n": 1, "text": "grün", "long": "x" * 5000}
    await store.write(source, b"content", metadata, content_type="text/plain")
    await store.write(env.key("old"), b"a longer old content", {"old": True}, content_type="text/old")
    for name in ("new/copy", "old"):
        info = await store.copy(source, env.key(name))
        got = await store.get(env.key(name))
        assert got.data == b"content"
        assert (info.key, got.info.key) == (env.key(name), env.key(name))
        assert (dict(info.metadata), dict(got.info.metadata)) == (metadata, metadata)
        assert (got.info.content_type, got.info.checksum) == ("text/plain", (await store.stat(source)).checksum)
    await store.write(source, b"changed")
    assert await store.read(env.key("old")) == b"content"
    await store.delete(source)
    assert await store.read(env.key("new/copy")) == b"content"


@STORAGE_BEHAVIOURS.add("S4", like=("gocdk/TestCopy",))
async def copy_onto_itself_changes_nothing(env: StorageEnvironment) -> None:
    """S3 refuses it without changed metadata; here the object is as it was."""
    store, key = await env.provider(), env.key("x")
    await store.write(key, b"content", {"n": 1})
    await store.copy(key, key)
    got = await store.get(key)
    assert (got.data, dict(got.info.metadata)) == (b"content", {"n": 1})
    assert await env.keys(store) == ["x"]


@STORAGE_BEHAVIOURS.add("S4", like=("gocdk/TestCopy",))
async def failed_copy_leaves_the_target(env: StorageEnvironment) -> None:
    """A missing source: the target is as it was, and none appears."""
    store, target = await env.provider(), env.key("target")
    await store.write(target, b"old", {"n": 1})
    for name in ("target", "new"):
        with raises(ObjectNotFoundError):
            await store.copy(env.key("nothing"), env.key(name))
    got = await store.get(target)
    assert (got.data, dict(got.info.metadata)) == (b"old", {"n": 1})
    assert await env.keys(store) == ["target"]
