"""How stored files are called."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from kinto_attachment.storage import names


@pytest.mark.parametrize(
    ("filename", "stored"),
    [
        ("a.txt", "a.txt"),
        ("IMG_2015-02-19.JPG", "IMG_2015-02-19.JPG"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("README", "README"),
        # Accents, ligatures and full-width letters have plain counterparts; others are dropped.
        ("Ångström ﬁle.txt", "Angstrom_file.txt"),
        ("日本.txt", "file.txt"),
        ("日本 2024.txt", "2024.txt"),
        ("a.日本", "a"),
        ("a．ｐｈｐ", "a.php"),
        ("\ud83d\ude00.txt", "file.txt"),
        # White space and control characters.
        ("  my \t holiday\u00a0photo .png ", "my_holiday_photo.png"),
        ("a\0b\x1fc\x7f.txt", "ab_c.txt"),
        # Folders, whoever wrote them.
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("folder/", "file"),
        ("a℀b.txt", "aacb.txt"),
        # What would be hidden, empty or a folder.
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("...", "file"),
        (".htaccess", "htaccess"),
        ("..txt", "txt"),
        ("._a.txt", "a.txt"),
        ("a.", "a"),
        ("a..", "a"),
        ("%%%.%%%", "file"),
    ],
)
def test_a_safe_name(filename: str, stored: str) -> None:
    assert names.safe(filename) == stored


@pytest.mark.parametrize(
    "filename",
    [
        "x" * 1000,
        "x" * 1000 + ".txt",
        "x" * 1000 + "." + "y" * 1000,
        "é" * 500 + ".png",
        "a" * 255,
    ],
)
def test_a_number_always_fits_into_255_bytes(filename: str) -> None:
    name = names.safe(filename)
    numbered = names.numbered(name, 9_999_999_999)
    assert len(name) <= 244
    assert len(numbered) <= 255
    assert numbered.endswith(names._split(filename)[1])


def test_the_stem_is_cut_before_the_extension() -> None:
    assert names.safe("x" * 300 + ".jpeg") == "x" * 239 + ".jpeg"


def test_an_absurd_extension_is_cut_too() -> None:
    assert names.safe("a." + "y" * 300) == "a." + "y" * 63
    assert len(names.randomized("a." + "y" * 300)) == 36 + 64


def test_a_random_name_keeps_the_extension_in_lower_case() -> None:
    first, second = names.randomized("été.JPG"), names.randomized("été.JPG")
    assert re.fullmatch(r"[0-9a-f-]{36}\.jpg", first)
    assert first != second
    assert re.fullmatch(r"[0-9a-f-]{36}", names.randomized("日本"))


@pytest.mark.parametrize(
    ("name", "numbered"),
    [
        ("a.txt", "a-3.txt"),
        ("a", "a-3"),
        ("a.tar.gz", "a.tar-3.gz"),
        ("f.g/a", "f.g/a-3"),
        ("f.g/a.txt", "f.g/a-3.txt"),
    ],
)
def test_the_number_goes_before_the_extension(name: str, numbered: str) -> None:
    assert names.numbered(name, 3) == numbered


def test_a_hidden_name_is_unique() -> None:
    assert re.fullmatch(r"\.[0-9a-f-]{36}\.part", names.hidden())
    assert names.hidden() != names.hidden()


@pytest.mark.parametrize("filename", ["a.txt", "été.JPG", "日本", "a.tar.gz", "a." + "y" * 300])
@pytest.mark.parametrize("folder", ["", "f/", "f/g/"])
def test_a_random_name_is_recognised(filename: str, folder: str) -> None:
    assert names.is_random(folder + names.randomized(filename))
    assert not names.is_random(folder + names.safe(filename))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2/a.txt",
        "F39DD8EA-EB9F-4EA7-9E09-3CDD0EE60CB2.txt",
        "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2.TXT",
        "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2.tar.gz",
        "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2.",
        "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2-1.txt",
        "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2.txt\n",
        # Other versions and variants.
        "f39dd8ea-eb9f-1ea7-9e09-3cdd0ee60cb2.txt",
        "f39dd8ea-eb9f-4ea7-ce09-3cdd0ee60cb2.txt",
        "f39dd8eaeb9f4ea79e093cdd0ee60cb2.txt",
        ".f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2.part",
    ],
)
def test_a_name_that_is_not_random(name: str) -> None:
    assert not names.is_random(name)


def test_a_part_is_recognised() -> None:
    upload = "f39dd8ea-eb9f-4ea7-9e09-3cdd0ee60cb2"
    for name in (
        names.hidden(),
        names.hidden(upload),
        names.hidden(upload, "name"),
        names.hidden(upload, "10000"),
    ):
        assert names.is_part(name)
        assert not names.is_random(name)
        assert not names.is_part(f"f/{name}")
    for name in (".kinto-attachment", ".x.part", f".{upload}-x.part", f".{upload}.part\n", upload):
        assert not names.is_part(name)


class Store(set[str]):
    """The names of files; counts how often it is asked."""

    looks = 0

    def create(self, name: str) -> bool:
        if name in self:
            return False
        self.add(name)
        return True

    def exists(self, name: str) -> bool:
        self.looks += 1
        return name in self

    def claim(self, is_used: Callable[[str], bool] | None = None) -> names.Claim:
        return names.Claim(self.create, self.remove, self.exists, is_used)


def test_the_first_free_number_is_claimed() -> None:
    store = Store()
    claimed = [store.claim().first_free("a.txt") for _ in range(100)]
    assert claimed == ["a.txt", *(f"a-{number}.txt" for number in range(1, 100))]


@pytest.mark.parametrize("remembered", [0, 5_000, 10_000])
def test_ten_thousand_taken_names_take_a_few_looks(remembered: int) -> None:
    taken = ["a.txt", *(f"a-{number}.txt" for number in range(1, 10_000))]
    store, used = Store(taken[remembered:]), Store(taken[:remembered])
    assert store.claim(used.exists).first_free("a.txt") == "a-10000.txt"
    assert store.looks < 40
    assert used.looks < 40
    assert store == {*taken[remembered:], "a-10000.txt"}


def test_a_name_that_was_taken_meanwhile_is_passed_over() -> None:
    class Raced(Store):
        def create(self, name: str) -> bool:
            if name == "a-1.txt":
                self.add(name)
            return super().create(name)

    assert Raced({"a.txt"}).claim().first_free("a.txt") == "a-2.txt"


def test_a_name_that_was_used_meanwhile_is_given_back() -> None:
    used = set()

    class Raced(Store):
        def create(self, name: str) -> bool:
            # Another process has stored it, had it remembered, and deleted it.
            if name != "a-2.txt":
                used.add(name)
            return super().create(name)

    store = Raced()
    assert store.claim(used.__contains__).first_free("a.txt") == "a-2.txt"
    assert store == {"a-2.txt"}


def test_a_name_is_given_back_if_it_is_not_known_whether_it_is_used() -> None:
    store = Store()

    def is_used(name: str) -> bool:
        if store:
            raise ConnectionError("no database")
        return False

    for claim in (store.claim(is_used).first_free, store.claim(is_used).exactly):
        with pytest.raises(ConnectionError):
            claim("a.txt")
        assert store == set()


def test_an_exact_name_is_claimed_or_nothing() -> None:
    store = Store()
    assert store.claim().exactly(".hidden") == ".hidden"
    for name, is_used in ((".hidden", None), ("b.txt", {"b.txt"}.__contains__)):
        with pytest.raises(FileExistsError, match=name):
            store.claim(is_used).exactly(name)
    assert store == {".hidden"}


def test_join_drops_empty_segments() -> None:
    assert names.join("", "a.txt") == "a.txt"
    assert names.join("/f//g/", "a.txt") == "f/g/a.txt"


def test_names_that_came_from_the_file_system_can_be_looked_up() -> None:
    name = b"\xff.txt".decode("utf-8", "surrogateescape")
    assert not names.is_valid(name)
    assert names.is_valid(name, "surrogateescape")
    assert not names.is_valid("\ud800.txt", "surrogateescape")
