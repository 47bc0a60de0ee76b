"""photolabel export MODEL -o FILE: a model as a file for other programs."""

from __future__ import annotations

from ..output import printable
from .parser import Parser
from .streams import say

_FORMS = """\
The file's ending says its form:
  .onnx         RGB pixels in, probabilities out, labels inside; of every model
  .keras        Keras' own VGG, for keras.models.load_model; its input is what preprocess_input makes
  .weights.h5   the weights of that alone, for load_weights
  .safetensors  weights under torchvision's names, for load_state_dict; photolabel takes it with --weights,
                and then knows the normalisation and the labels
"""


def parser() -> Parser:
    """Return the verb's parser."""
    made = Parser(
        prog="photolabel export", description="Write a model into a file that other programs take.", epilog=_FORMS
    )
    made.add_argument("model", metavar="MODEL", help="a model (see: photolabel models) or an ONNX file of photolabel's")
    made.add_argument("-o", "--output", metavar="FILE", required=True, help="the file; replaced if it is there")
    made.add_argument(
        "--precision", default="fp32", choices=["fp32", "int8"], help="int8: 8-bit integers; as .onnx only"
    )
    return made


def run(argv: list[str]) -> int:
    """Run the verb and return its exit code."""
    args = parser().parse_args(argv)

    from .. import exporting  # only now: --help must come at once

    out = exporting.export(args.model, args.output, precision=args.precision)
    say(printable(f"{out}: {args.model} as {exporting.of(out)[1].title}, {_size(out.stat().st_size)}"))
    return 0


def _size(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{max(size / 1e3, 1):,.0f} kB"
