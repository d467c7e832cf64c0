"""The encoding is told from short texts among much ASCII, as data files have them."""

import json

import pytest

from solopo_llamafactory.common.encoding import SAMPLE, encoding_of


TEXTS = {
    "GB18030": ["答案是阿达·马尔，租约编号。", "谁签署了租约？", "北京是中华人民共和国的首都，位于华北平原的北部。"],
    "BIG5": ["答案是阿達·馬爾，租約編號。", "誰簽署了租約？", "臺北是中華民國的首都，位於臺灣北部。"],
    "CP932": ["答えはアダ・マールです。", "誰が契約に署名しましたか？", "東京は日本の首都です。"],
    "EUC-JP": ["答えはアダ・マールです。", "誰が契約に署名しましたか？", "東京は日本の首都です。"],
    "CP949": ["정답은 아다 마를입니다.", "누가 계약에 서명했습니까?", "서울은 대한민국의 수도이다."],
    "CP1251": ["Ответ: Ада Марл.", "Кто подписал договор аренды?", "Москва — столица России."],
    "CP1252": [
        "Ada Märl, lease 0.",
        "Für Größe",
        "Où est le café? Élève à l'école",
        "¿Dónde está?",
        "naïve – “quote”",
        "It’s Ada Marl’s lease",
        "from 1960–65 … “maybe”",
    ],
    "UTF-16": ["Wer? 谁签署了租约？", "plain"],
    "UTF-32": ["Wer? 谁签署了租约？", "plain"],
    "UTF-16LE": ["Wer? 谁签署了租约？", "plain"],
    "UTF-16BE": ["Wer? 谁签署了租约？", "plain"],
}


@pytest.mark.parametrize("encoding, text", [(name, text) for name, texts in TEXTS.items() for text in texts])
@pytest.mark.parametrize("more_ascii", [0, 50])
def test_the_encoding_is_told(encoding, text, more_ascii):
    line = json.dumps({"prompt": "Lease 0 was signed by Ada Marl. " * more_ascii, "chosen": text}, ensure_ascii=False)
    assert encoding_of(f"{line}\n".encode(encoding)) == encoding


def test_a_sample_may_end_within_a_character():
    assert encoding_of(("a" + TEXTS["GB18030"][0] * SAMPLE).encode("GB18030")) == "GB18030"


@pytest.mark.parametrize("content", [b"\x80\x04\x95\0\0", b"{\x84 }", bytes(range(256))])
def test_where_none_fits_none_is_told(content):
    assert encoding_of(content) is None
