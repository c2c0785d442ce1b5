"""Where data sets come from: the files that their makers distribute, with digests, and what a user must fetch by hand.

No torch and no pandas here: the Snakefile imports this module.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surefoot.files import UserError


@dataclass(frozen=True)
class File:
    """One distributed file.

    Attributes:
        name: its name on disk.
        urls: where it can be fetched, tried in turn; empty: by hand only.
        sha256, md5, git_blob: published digests (git_blob is what `git hash-object` prints); none: the digest is noted
            at the first download and checked from then on.
        size: bytes, which what a server offers must have; 0 where not known to the byte.
        about: bytes where they are known roughly only, for the free-space check and estimates.
        to: folder, relative to the source's folder, into which an archive is extracted or a plain file is put.
        strip: leading folders of an archive's members that are dropped.
        password: of an encrypted zip.
        inner: archives within the archive are unpacked too, 'beside' themselves or each into a 'folder' of its name.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    md5: str = ""
    git_blob: str = ""
    size: int = 0
    about: int = 0
    to: str = "."
    strip: int = 0
    password: str = ""
    inner: Literal["", "beside", "folder"] = ""

    @property
    def bytes(self) -> int:
        """Bytes, maybe roughly; 0 where not known."""
        return self.size or self.about


@dataclass(frozen=True)
class Source:
    """A data set as it is distributed.

    Attributes:
        name: lower case, as in results/raw/{name}/.
        files: what is fetched and extracted.
        needs: paths relative to the source's folder that must exist afterwards (or in a user's copy), so that a
            half-extracted data set is named.
        folders: where a user's copy may stand below `data_root`, tried in turn; '.' is data_root itself.
        by_hand: what a user must do where a licence or a login is needed: which file, from where, to put where.
        licence: one line.
        inside: files of the extracted data set with published digests, checked in a user's copy where they are there,
            as its `files` are that are no archives.
        pickled: folder of another version that is pickled, which is never read as that can run code.
        size: bytes on disk after extraction, for the free-space check and the cards; 0 where nobody says them.
    """

    name: str
    files: tuple[File, ...]
    needs: tuple[str, ...]
    folders: tuple[str, ...]
    licence: str
    by_hand: str = ""
    inside: tuple[File, ...] = ()
    pickled: str = ""
    size: int = 0

    @property
    def archived(self) -> int:
        """Bytes of its files, as far as they are known; 0 where none is."""
        return sum(file.bytes for file in self.files)

    @property
    def unpacked(self) -> int:
        """Bytes after extraction; those of its files where nobody says them, as images are hardly smaller in one."""
        return self.size or self.archived

    def missing(self, place: Path) -> list[str]:
        """What of its needs a folder does not hold."""
        return [path for path in self.needs if not (place / path).exists()]

    def places(self, data_root: Path) -> list[Path]:
        """Where a user's copy may stand."""
        return [data_root / name for name in self.folders]

    def copy_in(self, data_root: Path) -> Path | None:
        """A user's complete copy; None where there is none. Raises UserError for one that is incomplete."""
        for place in self.places(data_root):
            if place.is_dir() and not self.missing(place):
                return place.resolve()
        for place in self.places(data_root):
            missing = self.missing(place)
            if place != data_root and place.is_dir() and any(place.iterdir()) and len(missing) < len(self.needs):
                hint = f" {self.by_hand}" if self.by_hand else ""
                raise UserError(
                    f"{self.name}: {place} is incomplete, {missing[0]} is missing; complete it or remove it.{hint}"
                )
        return None

    def no_copy(self, data_root: Path) -> str:
        """What to tell a user whose data_root holds no whole copy before a job meets it; '' where one is there."""
        try:
            if self.copy_in(data_root) or self.asks_the_user:
                return ""
        except UserError as error:
            return str(error)
        size = f" ({self.archived / 1e9:.3g} GB)" if self.archived else ""
        return f"{self.name}{size} is downloaded: no copy in {', '.join(map(str, self.places(data_root)))}"

    def pickled_copy(self, data_root: Path) -> str:
        """What to tell a user who has the pickled version only; '' where there is none."""
        places = self.places(data_root) if self.pickled else []
        if not all(map(self.missing, places)):
            return ""
        for place in places:
            if (place / self.pickled).is_dir():
                file = self.files[0]
                return (
                    f"{self.name}: {place / self.pickled} is the pickled version, which could run code when it is read "
                    f"and is not. Unpack {file.name} ({file.urls[0]}) into {place}, or put that file into "
                    f"results/raw/{self.name}/archives/; without data_root for this family it is downloaded"
                )
        return ""

    @property
    def asks_the_user(self) -> bool:
        """Whether some file can be had by hand only."""
        return not (self.files and all(file.urls for file in self.files))
