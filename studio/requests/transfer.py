"""Taking pictures into a data set, and giving them away as a plain folder."""

from typing import Literal

from pydantic import Field

from studio.config import Config


class ImportRequest(Config):
    """Copy pictures, captions and masks into a data set; the source is only read."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set that receives them."""
    source: str = Field(min_length=1, title="From")
    """A folder, a .zip, a tree of kohya's kind (NN_token class), or a kohya .toml."""
    recursive: bool = Field(False, title="With sub-folders")
    """Take pictures of folders inside the folder too."""
    regularisation: bool = Field(False, title="With regularisation pictures")
    """Take pictures that kohya's trees and files mark as regularisation too."""


class ExportRequest(Config):
    """Give a data set away as other trainers read it."""

    folder: str = Field(min_length=1, title="Data set")
    """Folder of the data set."""
    destination: str = Field(min_length=1, title="To")
    """Folder, or name of a .zip, that receives it; a bare name lies in exports inside the data set."""
    layout: Literal["plain", "kohya"] = "plain"
    """Pictures with .txt beside them, or kohya's folders named by repeats and words."""
    tokens: str = Field("", title="Words of the folder")
    """What kohya's folder name says after the repeats, such as `ohwx person`."""
    masks: bool = Field(True, title="With masks")
    """Give masks away too."""
    captions: Literal["txt", "jsonl", "csv"] = "txt"
    """One .txt beside each picture, or all captions in one metadata file."""
