"""Labels and help of the accordion in the host's five languages: element -> language -> properties."""

LANGUAGES = ("en", "ru", "zh", "ko", "ja")


def _label(*texts: str) -> dict[str, dict[str, str]]:
    return {language: {"label": text} for language, text in zip(LANGUAGES, texts, strict=True)}


def _field(labels: tuple[str, ...], infos: tuple[str, ...]) -> dict[str, dict[str, str]]:
    rows = zip(LANGUAGES, labels, infos, strict=True)
    return {language: {"label": label, "info": info} for language, label, info in rows}


LABELS = {
    "solopo_tab": _label(
        "SoLoPO configurations",
        "Конфигурации SoLoPO",
        "SoLoPO 参数设置",
        "SoLoPO 구성",
        "SoLoPO 設定",
    ),
    "solopo_pref_loss": _field(
        ("Loss type", "Тип потерь", "损失类型", "로스 유형", "損失タイプ"),
        (
            "Preference loss on the short context. A choice fills in the recipe's values.",
            "Функция потерь на коротком контексте. Выбор подставляет значения из рецепта.",
            "短上下文上的偏好损失。选择后自动填入配方中的数值。",
            "짧은 컨텍스트의 선호 로스입니다. 선택하면 레시피의 값이 채워집니다.",
            "短いコンテキストでの選好損失。選択するとレシピの値が入ります。",
        ),
    ),
    "solopo_alpha": _field(
        ("Alpha", "Альфа", "Alpha 参数", "알파", "Alpha 値"),
        (
            "Weight of the short-to-long reward alignment.",
            "Вес согласования наград короткого и длинного контекста.",
            "短到长奖励对齐项的权重。",
            "짧은 컨텍스트와 긴 컨텍스트의 보상 정렬 가중치.",
            "短いコンテキストと長いコンテキストの報酬整合の重み。",
        ),
    ),
    "solopo_alpha_auto": _field(
        (
            "Find alpha automatically",
            "Подобрать альфу автоматически",
            "自动确定 alpha",
            "알파 자동 결정",
            "alpha を自動で決める",
        ),
        (
            "In the first ten steps, from the pull of the two terms of the loss. The slider is not used.",
            "На первых десяти шагах, по силе двух слагаемых функции потерь. Ползунок не используется.",
            "在前十步中根据损失两项的作用强度确定，不使用滑块的值。",
            "처음 열 스텝에서 로스 두 항의 세기로 정합니다. 슬라이더 값은 쓰지 않습니다.",
            "最初の 10 ステップで、損失の二つの項の強さから決めます。スライダーは使いません。",
        ),
    ),
    "solopo_pref_beta": _field(
        ("Beta value", "Бета значение", "Beta 参数", "베타 값", "Beta 値"),
        (
            "Beta of the loss (lambda of ORPO): 0.1 for ORPO, 2 to 10 for SimPO.",
            "Бета функции потерь (лямбда в ORPO): 0.1 для ORPO, от 2 до 10 для SimPO.",
            "损失函数的 beta（ORPO 中为 lambda）：ORPO 用 0.1，SimPO 用 2 到 10。",
            "로스의 베타(ORPO에서는 람다): ORPO는 0.1, SimPO는 2~10.",
            "損失の beta（ORPO では lambda）：ORPO は 0.1、SimPO は 2 から 10。",
        ),
    ),
    "solopo_simpo_gamma": _field(
        ("Gamma", "Гамма", "Gamma 参数", "감마", "Gamma 値"),
        (
            "Target reward margin of SimPO. Other losses have none.",
            "Целевой отступ наград в SimPO. Другие функции потерь его не имеют.",
            "SimPO 的目标奖励间隔，其他损失不使用。",
            "SimPO의 목표 보상 마진. 다른 로스에는 없습니다.",
            "SimPO の目標報酬マージン。他の損失にはありません。",
        ),
    ),
    "solopo_gradient": _field(
        (
            "Alignment gradient",
            "Градиент согласования",
            "对齐项的梯度",
            "정렬 항의 그래디언트",
            "整合項の勾配",
        ),
        (
            "Into the long reward where it lags (one_sided) or always (long), into both (both, the paper), or into both, "
            "the short one only as far as the preference loss outweighs it (capped).",
            "В награду длинного контекста: где она отстаёт (one_sided) или всегда (long); в обе (both, статья); в обе, "
            "но в короткую лишь пока функция предпочтений перевешивает (capped).",
            "只进入长奖励：仅在其落后时（one_sided）或始终（long）；进入两者（both，论文）；进入两者，"
            "但短奖励以偏好损失能压过为限（capped）。",
            "긴 보상에만: 뒤처질 때만(one_sided) 또는 항상(long). 둘 다에(both, 논문). 둘 다에, "
            "단 짧은 보상은 선호 로스가 더 큰 한도까지만(capped).",
            "長い方の報酬のみ：遅れているとき（one_sided）または常に（long）。両方（both、論文）。両方、"
            "ただし短い方は選好損失が上回る範囲まで（capped）。",
        ),
    ),
    "solopo_reference": _field(
        (
            "Reference context",
            "Контекст эталонной модели",
            "参考模型的上下文",
            "참조 모델의 컨텍스트",
            "参照モデルのコンテキスト",
        ),
        (
            "What both rewards are measured from: the short context (short), or each from its own (matched, the paper). DPO.",
            "От чего отсчитываются награды: от короткого контекста (short) или каждая от своего (matched, статья). DPO.",
            "两个奖励的参考基准：都用短上下文（short），或各用自己的上下文（matched，论文）。用于 DPO。",
            "두 보상의 기준: 모두 짧은 컨텍스트(short), 또는 각자의 컨텍스트(matched, 논문). DPO용.",
            "二つの報酬の基準：どちらも短いコンテキスト（short）、またはそれぞれのもの（matched、論文）。DPO 用。",
        ),
    ),
    "solopo_align": _field(
        ("Aligned answers", "Согласуемые ответы", "对齐的回答", "정렬할 답변", "整合する回答"),
        (
            "Answers whose rewards are aligned: the paper aligns the chosen one.",
            "Ответы, награды которых согласуются: в статье это выбранный ответ.",
            "对齐奖励的回答：论文只对齐 chosen。",
            "보상을 정렬할 답변: 논문은 chosen만 정렬합니다.",
            "報酬を整合する回答：論文では chosen のみ。",
        ),
    ),
    "solopo_distance": _field(
        ("Distance", "Расстояние", "距离", "거리", "距離"),
        (
            "Distance between the short and the long reward.",
            "Расстояние между наградами короткого и длинного контекста.",
            "短奖励与长奖励之间的距离函数。",
            "짧은 컨텍스트와 긴 컨텍스트 보상 사이의 거리.",
            "短いコンテキストと長いコンテキストの報酬の距離。",
        ),
    ),
    "solopo_overlong": _field(
        ("Over-long examples", "Слишком длинные примеры", "超长样本", "너무 긴 예제", "長すぎる例"),
        (
            "What to do with an example longer than the cutoff length.",
            "Что делать с примером длиннее максимальной длины.",
            "超过截断长度的样本如何处理。",
            "최대 길이를 넘는 예제를 처리하는 방법.",
            "カットオフ長を超える例の扱い。",
        ),
    ),
    "solopo_checkpoint_layers": _field(
        ("Checkpointed layers", "Слои с пересчётом", "重计算层数", "재계산 레이어", "再計算する層"),
        (
            "Layers that recompute activations: auto (as few as memory demands) or a number.",
            "Слои с пересчётом активаций: auto (сколько требует память) или число.",
            "重新计算激活值的层数：auto（按显存需要尽量少）或一个数字。",
            "활성화를 재계산하는 레이어 수: auto(메모리가 요구하는 만큼만) 또는 숫자.",
            "活性値を再計算する層数：auto（メモリに応じて最小）または数値。",
        ),
    ),
    "solopo_precompute_ref": _field(
        (
            "Cache reference log-probs",
            "Кэшировать логарифмы вероятностей",
            "缓存参考模型对数概率",
            "참조 로그 확률 캐시",
            "参照対数確率をキャッシュ",
        ),
        (
            "Compute them once before training, so that no reference model stays in memory (DPO).",
            "Вычислить один раз до обучения, чтобы эталонная модель не занимала память (DPO).",
            "训练前计算一次，显存中不再保留参考模型（DPO）。",
            "학습 전에 한 번 계산하여 참조 모델을 메모리에 두지 않습니다(DPO).",
            "学習前に一度だけ計算し、参照モデルをメモリに置きません（DPO）。",
        ),
    ),
    "solopo_tiled_mlp": _field(
        ("Tiled MLP", "MLP по частям", "分块 MLP", "타일 MLP", "タイル MLP"),
        (
            "Compute the MLPs tile by tile, for very long rows (needs DeepSpeed).",
            "Вычислять MLP по частям, для очень длинных строк (нужен DeepSpeed).",
            "分块计算 MLP，用于超长序列（需要 DeepSpeed）。",
            "매우 긴 행을 위해 MLP를 타일 단위로 계산합니다(DeepSpeed 필요).",
            "非常に長い行のために MLP をタイルごとに計算します（DeepSpeed が必要）。",
        ),
    ),
}
