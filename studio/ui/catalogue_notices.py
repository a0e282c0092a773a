"""Chinese for what is said about prompts: names that are not there, embeddings that were missed or left out."""

from studio.prompts import notices as said

NOTICES: dict[str, str] = {
    said.NEAR: "提示词里的“{written}”没有被当作 Embedding “{name}”。要使用它，请写成 {form}",
    said.EXTENSION: "“{written}”：Embedding 请写成“{name}”，不要带文件扩展名。",
    said.GROWN: "“{written}”不是 Embedding “{name}”：名称必须是独立的一个词。",
    said.TWINS: "{names} 只有大小写不同；使用了 {name}。",
    said.WHOLE: "提示词以冒号和数字结尾，整段的权重会变成 {weight}；请用括号括住要加权的部分。",
    said.NO_KIND: "没有 <{kind}:...> 这种扩展网络，已忽略；可用的是 <lora:name:1> 和 <hypernet:name:1>。",
    said.NO_NETWORK: "找不到名为“{name}”的{kind}。",
    said.NO_NETWORK_NEAR: "找不到名为“{name}”的{kind}；是不是“{near}”？",
    said.MISSING: "找不到{kind}“{name}”，出图时没有使用它。",
    said.MISSING_NEAR: "找不到{kind}“{name}”，出图时没有使用它。是不是“{near}”？",
    said.UNKNOWN_KIND: "<{kind}:{name}>：没有“{kind}”这种扩展网络，已忽略。",
    said.NEGATIVE: "<{kind}:{name}> 写在反向提示词里，扩展网络在那里不起作用，只会被当作文字。请移到正向提示词。",
    said.WILDCARD: "“{written}”看起来是通配符（wildcard）。这里不会替换通配符，它被当作文字。",
    said.AMBIGUOUS: "有多个{kind}文件都叫“{name}”：{files}。使用了“{taken}”；要选另一个，请写 <{tag}>。",
    said.AMBIGUOUS_EMBEDDING: "有多个 Embedding 都叫“{name}”：{files}。使用了“{taken}”；要用另一个，请写成 {form}。",
    said.BUNDLED_HALF: "LoRA “{lora}”自带的 Embedding “{name}”没有使用：它只有 SDXL 一个文本编码器的向量（缺少 {part}）。",
    said.BUNDLED_WIDTH: "LoRA “{lora}”自带的 Embedding “{name}”没有使用：它的向量宽度是 {width}，而 {checkpoint} 需要 {needed}。",
    said.NO_PLACE: "LoRA “{name}”有 {count} 层在 {checkpoint} 中找不到对应的层（第一个：{layer}）。",
}
