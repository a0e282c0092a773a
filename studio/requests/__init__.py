"""What may be asked of the studio: each request is a Config, and REQUESTS names them for the queue."""

from studio.config import Config
from studio.errors import InputError
from studio.requests.average import AverageRequest
from studio.requests.caption import CaptionRequest
from studio.requests.compare import CompareRequest
from studio.requests.download import DownloadRequest
from studio.requests.embedding_room import EditEmbeddingRequest, InspectEmbeddingRequest
from studio.requests.examine import ExamineRequest
from studio.requests.extras import ExtrasRequest
from studio.requests.forecast import ForecastRequest
from studio.requests.generate import GenerateRequest
from studio.requests.hypernetwork import CreateHypernetworkRequest
from studio.requests.inspect import InspectRequest
from studio.requests.interrogate import InterrogateRequest
from studio.requests.mask import MaskRequest
from studio.requests.preprocess import PreprocessRequest
from studio.requests.residence import ResidenceRequest
from studio.requests.run_grid import RunGridRequest
from studio.requests.scripts import PlotRequest, PromptMatrixRequest, PromptsFromFileRequest
from studio.requests.sd_upscale import SdUpscaleRequest
from studio.requests.sheet import SheetRequest
from studio.requests.tools import BakeLoraRequest, ConvertRequest, ExtractLoraRequest, MergeLoraRequest, MergeRequest, ResizeLoraRequest
from studio.requests.train import CreateEmbeddingRequest, TrainRequest
from studio.requests.transfer import ExportRequest, ImportRequest
from studio.requests.write import WriteRequest

REQUESTS: tuple[tuple[str, type[Config]], ...] = (
    ("generate", GenerateRequest),
    ("preprocess", PreprocessRequest),
    ("create_embedding", CreateEmbeddingRequest),
    ("create_hypernetwork", CreateHypernetworkRequest),
    ("train", TrainRequest),
    ("plot", PlotRequest),
    ("prompt_matrix", PromptMatrixRequest),
    ("prompts_from_file", PromptsFromFileRequest),
    ("sd_upscale", SdUpscaleRequest),
    ("interrogate", InterrogateRequest),
    ("extras", ExtrasRequest),
    ("residence", ResidenceRequest),
    ("inspect", InspectRequest),
    ("import", ImportRequest),
    ("export", ExportRequest),
    ("examine", ExamineRequest),
    ("write", WriteRequest),
    ("mask", MaskRequest),
    ("caption", CaptionRequest),
    ("compare", CompareRequest),
    ("download", DownloadRequest),
    ("forecast", ForecastRequest),
    ("inspect_embedding", InspectEmbeddingRequest),
    ("edit_embedding", EditEmbeddingRequest),
    ("sheet", SheetRequest),
    ("average", AverageRequest),
    ("run_grid", RunGridRequest),
    ("merge", MergeRequest),
    ("merge_lora", MergeLoraRequest),
    ("extract_lora", ExtractLoraRequest),
    ("resize_lora", ResizeLoraRequest),
    ("bake_lora", BakeLoraRequest),
    ("convert", ConvertRequest),
)
"""Kind of job and the request it carries."""


def kind_of(request: Config) -> str:
    """The kind of job that carries this request."""
    for kind, cls in REQUESTS:
        if isinstance(request, cls):
            return kind
    raise InputError(f"{type(request).__name__} is not a request the queue knows.")


def request_of(kind: str, values: dict) -> Config:
    """The request of a stored job; raises InputError when the kind or a value is unknown."""
    for name, cls in REQUESTS:
        if name == kind:
            return cls.check(values)
    raise InputError(f"There is no kind of job called {kind!r}.")
