"""llama-cpp-python's server, which reads every prompt from its beginning.

By itself it keeps the last prompt in memory: a call that follows a similar one would be faster, and its self-hosted
cost would depend on which configuration happened to come before.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from llama_cpp import Llama
from llama_cpp.server.__main__ import main

generate = Llama.generate


def generate_from_the_beginning(self: Llama, tokens: Sequence[int], **options: Any) -> Iterator[int]:
    """Forget the prompt before this one."""
    self.reset()
    return generate(self, tokens, **options)


Llama.generate = generate_from_the_beginning

if __name__ == "__main__":
    main()
