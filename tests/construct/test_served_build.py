"""The whole build through a server whose answers hold more than the answer."""

import html
import itertools
import json
from pathlib import Path

from solopo_llamafactory.construct.run import run_build
from tests.helpers.questions import write_lines
from tests.helpers.servers import server_arguments


def test_a_build_from_a_server_with_marks_in_its_answers(tmp_path, server, qwen_tokenizer, capsys):
    """Thoughts that pass the right answer, the template's end, another family's end and empty answers."""

    def answer(request, number):
        completion = server.completion(request)
        for choice, form in zip(completion["choices"], itertools.count(4 * number)):
            right, wrong = "The answer is Esk.", f"The answer is Orm {form}."
            contents = [
                f"<think>{right}</think>\n\n{wrong}<|im_end|>",
                f"{wrong}</think>{right}<|im_end|>",
                "",
                right + "<|eot_id|>",
            ]
            choice["message"] = {"role": "assistant", "content": contents[form % 4]}
        return 200, completion

    server.misbehave = answer
    values = {"tokenizer": qwen_tokenizer, "n": 4, "samples_per_call": 4, "num_examples": 2}
    files = {"source": "generic", "dataset_info": str(tmp_path / "info.json"), "num_contexts": 2}
    sizes = {"short_tokens": 200, "long_tokens": 400}
    evidence = [{"title": "Lease", "text": "The lease was signed in Esk."}]
    questions = [{"id": str(i), "question": f"Where {i}?", "answers": ["Esk"], "evidence": evidence} for i in range(2)]
    documents = [
        {"title": f"Minutes {i}", "text": f"The council met {i} times and spoke of roads."} for i in range(40)
    ]
    files |= {"input": str(write_lines(tmp_path / "questions.jsonl", *questions))}
    files |= {"corpus": str(write_lines(tmp_path / "documents.jsonl", *documents))}
    args = server_arguments(tmp_path, server.url, **values, **files, **sizes)
    run_build(args)
    pairs = [json.loads(line) for line in Path(args.output).read_text().splitlines()]
    assert len(pairs) == 2 and all(pair["chosen"].endswith("</think>The answer is Esk.") for pair in pairs)
    assert all(pair["rejected"].startswith("<think>The answer is Esk.</think>") for pair in pairs)
    assert "<|" not in "".join(pair["chosen"] + pair["rejected"] for pair in pairs)
    out = capsys.readouterr().out
    page = args.report_path.read_text()
    for said in (
        "2 of 8 answers hold no answer (2 empty): ",
        "2 of 8 answers hold a control token (2 <|eot_id|>) and enter no pair: ",
    ):
        assert said in out and html.escape(said) in page
    assert "4 of 8 answers came with the template's end mark, which is removed." in out
