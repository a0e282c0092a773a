"""Chinese for presets: why a value is advised, what a card can do, and what became of settings of other programs."""

ADVISED: dict[str, str] = {
    "Rate {value}: systems that work use 0.0005 to 0.005 with a falling rate and about 4 pictures a step; more vectors and SDXL's two encoders take less.": (
        "学习率 {value}：效果好的系统用 0.0005 到 0.005，逐渐下降，每步约 4 张图片；向量更多或 SDXL 的两个编码器则应更低。"
    ),
    "Rate {value}: 1e-4 is what sd-scripts' documents, kohya_ss, ai-toolkit and diffusers' README come to, times the square root of the batch (spacepxl).": (
        "学习率 {value}：sd-scripts 文档、kohya_ss、ai-toolkit 和 diffusers 说明都归于 1e-4，再乘以批量的平方根（spacepxl）。"
    ),
    "Rate {value}, A1111's own: a hypernetwork changes every attention at once and breaks at the rates of a word.": (
        "学习率 {value}，A1111 自己的值：超网络同时改变每一处注意力，用词的学习率会崩溃。"
    ),
    "Rate {value}: diffusers' DreamBooth README, with the text encoder left as it is.": "学习率 {value}：diffusers 的 DreamBooth 说明，文本编码器保持不变。",
    "Rate {value}: from 5e-6 to 1e-7 all reach the same place (spacepxl), SDXL's trainers write 4e-7 to 1e-5; a low one forgets less.": (
        "学习率 {value}：5e-6 到 1e-7 都到达同一处（spacepxl），SDXL 的训练器写 4e-7 到 1e-5；低的忘得少。"
    ),
    "The rate stays: diffusers' DreamBooth and the SDXL fine-tunes keep it constant.": "学习率不变：diffusers 的 DreamBooth 和 SDXL 微调都保持恒定。",
    "The rate falls along a cosine, so that the last steps settle: sd-scripts' documents and invoke-training do so.": (
        "学习率按余弦下降，让最后几步稳定下来：sd-scripts 文档和 invoke-training 都这样做。"
    ),
    "{value} steps of warm-up: the optimiser has seen nothing yet, and whole networks are hurt by its first guesses.": "预热 {value} 步：优化器还什么都没见过，它最初的猜测会伤到整个网络。",
    "{value} steps: {each} for each of {count} pictures, between 1500 and 3000 (invoke-training 2000, diffusers 3000).": (
        "{value} 步：{count} 张图片每张 {each} 步，在 1500 到 3000 之间（invoke-training 2000，diffusers 3000）。"
    ),
    "{value} steps: {each} for each of {count} pictures, from diffusers' 400 to 3000; the network learns a subject by heart soon after.": (
        "{value} 步：{count} 张图片每张 {each} 步，从 diffusers 的 400 到 3000；再多网络很快就会背下主体。"
    ),
    "{value} steps at {batch} a step are {epochs} epochs of {images} images with repeats: {each} looks for each of {count} pictures, within limits; repeats only make epochs longer.": (
        "{value} 步、每步 {batch} 张，相当于 {images} 张图片（含重复次数）训练 {epochs} 轮：{count} 张图片各看 {each} 次，有上下限；重复次数越多每轮越长，总步数不变。"
    ),
    "{value} steps at {batch} a step are {looks} looks: {each} for each of {count} pictures, as 20 pictures were best at 2000 (spacepxl), with a least and a most.": (
        "{value} 步、每步 {batch} 张，共看 {looks} 次：{count} 张图片每张 {each} 次，因为 20 张图片在 2000 次时最好（spacepxl），并设有上下限。"
    ),
    "A copy every {value} steps: the best one usually comes before the end, but each takes gigabytes.": "每 {value} 步保存一份副本：最好的通常出现在结束之前，但每份要占数 GB。",
    "A copy every {value} steps: the best one usually comes before the end, and it stays usable to about three times its steps (spacepxl).": (
        "每 {value} 步留一份副本：最好的通常在结束之前，到其步数的约三倍为止都可用（spacepxl）。"
    ),
    "A picture every {value} steps: about ten to compare.": "每 {value} 步画一张：约十张可供比较。",
    "Batch 1: what an SDXL or a whole network leaves room for on a small card; a larger batch does not change quality (spacepxl).": (
        "批量 1：SDXL 或整个网络在小显存卡上只剩这么多空间；更大的批量不改变质量（spacepxl）。"
    ),
    "Batch 1: with {count} pictures a larger one shows the same ones together again and again.": "批量 1：只有 {count} 张图片时，更大的批量会反复让同样的图片一起出现。",
    "Batch {value}: the noise of a step falls with the square root of it, and batch 4 passes 3.5 pictures a second where batch 1 passes 2.4 (spacepxl).": (
        "批量 {value}：每步的噪声按其平方根下降，批量 4 每秒过 3.5 张，批量 1 只有 2.4 张（spacepxl）。"
    ),
    "{value} goes a step: a word settles at about 4 pictures a step, as diffusers and cloneofsimo have it, without their memory.": (
        "每步累积 {value} 次：词在每步约 4 张图片时稳定，diffusers 和 cloneofsimo 也如此，而不占相应的显存。"
    ),
    "One go a step: more pictures before each change do not make the result better (spacepxl).": "每步一次：每次改变前看更多图片不会让结果更好（spacepxl）。",
    "AdamW: what it remembers of a few vectors takes no memory, and A1111, diffusers and invoke-training use it for words.": (
        "AdamW：几个向量的优化器状态几乎不占内存，A1111、diffusers 和 invoke-training 训练词都用它。"
    ),
    "Adafactor remembers next to nothing, as SDXL's low-memory trainings use it; AdamW 8-bit ends a little lower (spacepxl), where an NVIDIA card has it.": (
        "Adafactor 几乎不占状态内存，SDXL 的低显存训练都用它；有 NVIDIA 显卡时，AdamW 8-bit 的损失略低（spacepxl）。"
    ),
    "AdamW: for small networks its memory is small, and Adafactor ended higher (spacepxl).": "AdamW：对小网络占用很小，而 Adafactor 的结果较差（spacepxl）。",
    "Gradient checkpointing: about a fifth slower, and what brings SDXL LoRA to 8 GB and SD1 DreamBooth to 16 GB.": (
        "梯度检查点：约慢五分之一，正是它让 SDXL LoRA 降到 8 GB、SD1 DreamBooth 降到 16 GB。"
    ),
    "No gradient checkpointing: SD1 and SD2 fit without it, and it costs a fifth of the speed (invoke-training).": (
        "不用梯度检查点：SD1 和 SD2 不用也装得下，而它要损失五分之一的速度（invoke-training）。"
    ),
    "Gradients are capped by their length: sd-scripts and diffusers do so unless they are told otherwise.": "按长度限制梯度：sd-scripts 和 diffusers 默认如此。",
    "Capped at {value}: the default of sd-scripts and diffusers.": "上限 {value}：sd-scripts 和 diffusers 的默认值。",
    "{value} vectors: 1 or 2 for an object, 4 to 8 for a person or a style, fewer where {count} pictures show little; over 16 the word learns whole pictures.": (
        "{value} 个向量：物体 1 或 2 个，人物或风格 4 到 8 个，{count} 张图片内容少时更少；超过 16 个会学下整张图片。"
    ),
    "It starts from {value}: a word that means nearly the same is half of the way; write a closer one, such as woman or teapot.": (
        "从 {value} 开始：意思相近的词就是一半的路程；请写更贴切的，例如 woman 或 teapot。"
    ),
    "Words at {value}: diffusers' README and invoke-training's SDXL sample come to 0.002; two encoders take half.": (
        "词的学习率 {value}：diffusers 说明和 invoke-training 的 SDXL 示例都是 0.002；两个编码器取一半。"
    ),
    "Both at once: the LoRA draws what the word begins to name (pivotal tuning, as diffusers does it).": "两者同时：LoRA 画出词开始指代的东西（diffusers 的 pivotal tuning）。",
    "The word stops at step {value}, half of all: diffusers' train_text_encoder_ti_frac is 0.5; after that only the LoRA learns.": (
        "词在第 {value} 步停止，即一半：diffusers 的 train_text_encoder_ti_frac 为 0.5；之后只有 LoRA 学习。"
    ),
    "Rank {value}: room for a subject and its surroundings, as sd-scripts' document for SDXL has it.": "秩 {value}：足以容纳主体及其周围，sd-scripts 的 SDXL 文档也如此。",
    "Rank {value}: 16 is what OneTrainer and sd-scripts' documents write; a thing needs less, a style more; LoHa should stay at 32 or below (LyCORIS).": (
        "秩 {value}：OneTrainer 和 sd-scripts 文档写 16；物体需要更少，风格更多；LoHa 应不超过 32（LyCORIS）。"
    ),
    "Alpha {value}, half of the rank: LyCORIS' author advises 1 to half; dividing it by k wants the rate times the square root of k.": (
        "Alpha {value}，秩的一半：LyCORIS 作者建议 1 到一半；除以 k 则学习率要乘以 k 的平方根。"
    ),
    "Attention and the layers between: attention alone stays above a full fine-tune even at rank 128 (spacepxl), and OneTrainer filters the same.": (
        "注意力及其间的层：只用注意力即使秩 128 也不如完整微调（spacepxl），OneTrainer 也这样筛选。"
    ),
    "No convolutions: they cost parameters for nothing (spacepxl).": "不用卷积：白费参数（spacepxl）。",
    "Convolutions at rank {value}, half of ai-toolkit's 16: brushwork and texture are drawn there; set 0 to try without, as spacepxl measured no gain from them.": (
        "卷积秩 {value}，ai-toolkit 16 的一半：笔触和纹理在那里画出；spacepxl 测得没有收益，可设 0 试试。"
    ),
    "Alpha {value} for the convolutions: half of their rank, as for the rest.": "卷积的 Alpha {value}：其秩的一半，与其余相同。",
    "The text encoder stays: the word's vectors learn in its place.": "文本编码器不变：由词的向量代替它学习。",
    "The text encoders stay: OneTrainer's SDXL preset leaves them, and their outputs can be kept instead of the encoders (1.6 GB less).": (
        "文本编码器不变：OneTrainer 的 SDXL 预设不训练它们，可以只保留其输出（省 1.6 GB）。"
    ),
    "The text encoder stays: with it DreamBooth needs 24 GB or more (diffusers), and it does not lower what can be reached (spacepxl).": (
        "文本编码器不变：训练它 DreamBooth 需要 24 GB 以上（diffusers），而且不会达到更低的损失（spacepxl）。"
    ),
    "Text encoder at {value}, the low end of sd-scripts' 1e-5 to 5e-5: a style is drawn by the UNet, and words should keep their meaning.": (
        "文本编码器 {value}，sd-scripts 1e-5 到 5e-5 的下限：风格由 UNet 画出，词应保持原意。"
    ),
    "Text encoder at {value}, half of the UNet's rate: kohya_ss' presets; a new name has to be learned.": "文本编码器 {value}，UNet 的一半：kohya_ss 的预设；要学会一个新名字。",
    "LoHa: two products of rank 16 multiplied hold rank 256 in a small file, which a style's many textures want.": "LoHa：两个秩 16 的乘积相乘，小文件里容纳秩 256，适合风格的众多纹理。",
    "LoKr: a subject fits into its small matrices, and it took 3 h 40 to 5 h 10 where LoHa took 5 h 40 (LyCORIS' bench).": (
        "LoKr：主体装得进它的小矩阵，用时 3 小时 40 分到 5 小时 10 分，而 LoHa 为 5 小时 40 分（LyCORIS 测试）。"
    ),
    "Factor {value}: LyCORIS' author advises 4 to 8; the file becomes about a sixty-fourth of the network.": "因子 {value}：LyCORIS 作者建议 4 到 8；文件约为网络的六十四分之一。",
    "The second matrix stays whole: what kohya's presets ask for with rank 100000; rank and alpha then do nothing.": ("第二个矩阵保持完整：kohya 的预设用秩 100000 表示；此时秩和 Alpha 不起作用。"),
    "Layers {value}: A1111's own; wider ones learn few pictures by heart.": "层 {value}：A1111 自己的值；更宽的会背下少量图片。",
    "Activation {value}: without a bend two layers are no more than one matrix.": "激活 {value}：没有弯折，两层不过是一个矩阵。",
    "Numbers begin near nothing (0.01), so that the first previews are the checkpoint's own.": "数值从接近零（0.01）开始，所以最初的预览就是模型自己的。",
    "A tenth is dropped in the middle: with {count} pictures a hypernetwork otherwise learns them by heart.": "中间丢弃十分之一：只有 {count} 张图片时，超网络否则会背下它们。",
    "Template {value}: captions that name what changes keep the background out of what is learned (A1111, OneTrainer).": ("模板 {value}：说明变化之处的描述能让背景不被学进去（A1111、OneTrainer）。"),
    "Template {value}: the pictures have no captions; templates alone bind the background to the word, so captions are worth writing.": (
        "模板 {value}：图片没有描述；只用模板会把背景绑到词上，所以值得写描述。"
    ),
    "The caption is left out one time in twenty, so that the word alone is enough; ai-toolkit's 0.05.": "二十次里省略一次描述，让单独一个词就够；ai-toolkit 的 0.05。",
    "There are no captions to leave out.": "没有可省略的描述。",
    "Tags come in a new order each time, so that no place in the prompt matters; characters are captioned with tags.": ("标签每次换新顺序，让提示词里的位置无关紧要；角色用标签来描述。"),
    "Captions are sentences here, and sentences that are shuffled mean nothing; switch it on for tags.": "这里的描述是句子，打乱的句子没有意义；用标签时请打开。",
    "No mirror images: faces, hair and clothes have a side, and a mirrored face is another face.": "不用镜像：脸、头发和衣服分左右，镜像的脸是另一张脸。",
    "Mirror images show twice as many pictures, as diffusers' training of words does; switch it off where there is writing.": ("镜像让图片多一倍，diffusers 训练词也这样；有文字时请关闭。"),
    "No mirror images: {count} pictures show enough, and labels and handles have a side.": "不用镜像：{count} 张图片足够，而标签和把手分左右。",
    "Pictures keep their shape, as kohya's trainer has it: nothing is stretched and little is cut off.": "图片保持形状，与 kohya 的训练器一样：不拉伸，裁掉很少。",
    "The checkpoint's own size ({size} for {family}): smaller saves memory and loses detail, larger was never learned.": (
        "模型自己的尺寸（{family} 为 {size}）：更小省显存但丢细节，更大则模型从未学过。"
    ),
    "Min-SNR {value}: the paper's own value and invoke-training's; noise levels stop drowning each other.": ("Min-SNR {value}：论文和 invoke-training 的值；各噪声级别不再互相淹没。"),
    "Noise offset {value}: kohya_ss' presets have 0.0357 to 0.0375; a style's darks and lights are part of it.": ("噪声偏移 {value}：kohya_ss 的预设为 0.0357 到 0.0375；风格的明暗也是它的一部分。"),
    "No noise offset: it shifts contrast, which is nothing of the subject.": "不用噪声偏移：它改变对比度，与主体无关。",
    "Clip skip {value}: drawn characters are painted with anime checkpoints, which were trained so; write 1 for a photographic one.": (
        "Clip skip {value}：手绘角色用动漫模型画，它们是这样训练的；写实模型请写 1。"
    ),
    "Clip skip {value}: as the base is used; only anime checkpoints of SD1 want 2.": "Clip skip {value}：与基础模型的用法一致；只有 SD1 的动漫模型要 2。",
    "Class word {value}: what it is, so that it learns the difference only; write a closer one, such as woman or teapot.": (
        "类别词 {value}：它是什么，这样只学差别；请写更贴切的，例如 woman 或 teapot。"
    ),
    "Into a {value}: on SDXL a whole checkpoint needs 10 to 24 GB, a LoRA 8; on SD1 and SD2 16 GB hold the whole.": (
        "训练成 {value}：SDXL 的完整模型需要 10 到 24 GB，LoRA 只要 8；SD1 和 SD2 的完整模型 16 GB 装得下。"
    ),
    "No prior preservation: a file that is put on and off leaves the class as it was, and a style has no class.": "不用先验保持：可随时加上或取下的文件不改变类别，而风格没有类别。",
    "The class is kept by what the untouched network says: it is there under the LoRA, and no pictures have to be painted.": ("用未改动的网络的输出来保持类别：它就在 LoRA 之下，不必画图片。"),
    "The class is kept by pictures of it, as in the paper: a second network to ask would not fit beside the first.": ("与论文一样，用类别的图片来保持它：显存里放不下第二个可询问的网络。"),
    "{value} class pictures: diffusers' DreamBooth README; they are painted once and used again.": "{value} 张类别图片：diffusers 的 DreamBooth 说明；只画一次，以后再用。",
    "Both count the same: weight {value} in the paper and in diffusers.": "两者同等：论文和 diffusers 中权重都是 {value}。",
    "Attention alone: the gradients of a whole SDXL take 5 GB in half precision, those of its attention far less.": ("只训练注意力：整个 SDXL 的梯度在半精度下占 5 GB，注意力的要少得多。"),
    "The whole UNet: 24 GB hold it with checkpointing (diffusers); choose attention on a smaller card.": "整个 UNet：用梯度检查点时 24 GB 装得下（diffusers）；显存较小请选注意力。",
    "A running average of {value}: over {steps} steps it is steadier than any single step; it costs one more copy of the weights.": (
        "滑动平均 {value}：经过 {steps} 步，它比任何单独一步都稳；多占一份权重。"
    ),
    "No running average: it costs one more copy of the weights, and {steps} steps are short.": "不用滑动平均：它多占一份权重，而 {steps} 步不长。",
    "Two previews: one near the pictures shows likeness, one far from them shows whether it still listens.": "两个预览：一个接近图片，看像不像；一个远离图片，看是否仍听话。",
}
"""Why a value is advised."""
CARD: dict[str, str] = {
    "No source states how much graphics memory {method} needs.": "没有资料说明 {method} 需要多少显存。",
    "{method} on {family} needs {least} GB of graphics memory at the least, with {saving}; {easy} GB need no care ({source}).": (
        "{family} 的 {method} 至少需要 {least} GB 显存，并使用{saving}；{easy} GB 则无需操心（{source}）。"
    ),
    "{method} on {family} fits this card of {card} GB without care; a larger batch fills it ({source}).": "{family} 的 {method} 在这张 {card} GB 的卡上无需操心；可加大批量（{source}）。",
    "{method} on {family} fits this card of {card} GB only with {saving}: {least} GB at the least, {easy} GB without care ({source}).": (
        "{family} 的 {method} 要使用{saving}才装得进这张 {card} GB 的卡：至少 {least} GB，{easy} GB 则无需操心（{source}）。"
    ),
    "{method} on {family} is at the edge of this card of {card} GB: it needs {least} GB even with {saving}; a smaller resolution makes room ({source}).": (
        "{family} 的 {method} 正处在这张 {card} GB 卡的边缘：即使使用{saving}也需要 {least} GB；降低分辨率可腾出空间（{source}）。"
    ),
    "{method} on {family} does not fit this card of {card} GB: it needs {least} GB even with {saving} ({source}).": (
        "{family} 的 {method} 装不进这张 {card} GB 的卡：即使使用{saving}也需要 {least} GB（{source}）。"
    ),
    "{method} on {family} does not fit this card of {card} GB: it needs {least} GB even with {saving} ({source}). {smaller} does the same for less.": (
        "{family} 的 {method} 装不进这张 {card} GB 的卡：即使使用{saving}也需要 {least} GB（{source}）。{smaller} 用更少显存做到同样的事。"
    ),
    "gradient checkpointing and batch 1": "梯度检查点和批量 1",
    "gradient checkpointing, batch 1 and an 8-bit optimizer": "梯度检查点、批量 1 和 8 位优化器",
    "gradient checkpointing, batch 1 and Adafactor or an 8-bit optimizer": "梯度检查点、批量 1 以及 Adafactor 或 8 位优化器",
    "A1111 says under 6 GB with VAE and CLIP moved off, diffusers 11.5 GB": "A1111 称移走 VAE 和 CLIP 后不到 6 GB，diffusers 为 11.5 GB",
    "no source states a figure: SDXL LoRA's 8 GB and the 1.6 GB of text encoders that have to stay; invoke-training's sample is for 24 GB": (
        "没有公布的数字：SDXL LoRA 的 8 GB 加上必须留下的文本编码器 1.6 GB；invoke-training 的示例针对 24 GB"
    ),
    "diffusers says under 11 GB at batch 1, LyCORIS 15.4 GB at batch 8": "diffusers 称批量 1 不到 11 GB，LyCORIS 批量 8 为 15.4 GB",
    "sd-scripts says 8 GB at the least and 10 recommended, diffusers under 16 GB": "sd-scripts 称至少 8 GB、建议 10 GB，diffusers 不到 16 GB",
    "diffusers says 16 GB with checkpointing and 8-bit, 24 GB with the text encoder or without care": "diffusers 称用检查点和 8 位为 16 GB，训练文本编码器或不节省则为 24 GB",
    "sd-scripts and OneTrainer say 10 GB with bf16 weights and a fused backward, 17 GB in fp32, 24 GB without": (
        "sd-scripts 和 OneTrainer 称 bf16 权重加融合反向为 10 GB，fp32 为 17 GB，都不用为 24 GB"
    ),
    "as SDXL LoRA, and the 1.6 GB of text encoders that the embedding needs on the card": "同 SDXL LoRA，再加嵌入所需的文本编码器 1.6 GB",
    "no source states a figure: as textual inversion, whose activations are the same": "没有公布的数字：与文本反转相同，激活一样多",
    "Textual inversion": "文本反转 Textual inversion",
    "LoRA": "LoRA",
    "LyCORIS": "LyCORIS",
    "A hypernetwork": "超网络 Hypernetwork",
    "DreamBooth": "DreamBooth",
    "DreamBooth into a LoRA": "训练成 LoRA 的 DreamBooth",
    "A full fine-tune": "完整微调",
    "Embedding and LoRA together": "嵌入与 LoRA 一起",
}
"""What a card can do, and the words that stand in these sentences."""
TAKEN: dict[str, str] = {
    "A1111 has no min-SNR and always takes AdamW: both are set so.": "A1111 没有 min-SNR，且总用 AdamW：两者都照此设置。",
    "A1111 caps gradients after scaling them by up to 65536; here {value} is in the gradient's own units, so it caps far less often.": (
        "A1111 在梯度放大（至多 65536 倍）之后才限制；这里 {value} 以梯度本身为单位，所以很少起作用。"
    ),
    "It went on from step {value}; what it had learned by then is not in this file.": "它从第 {value} 步继续；在那之前学到的不在这个文件里。",
    "{steps} steps were asked for, but A1111 ends with its schedule: {until} steps.": "要求 {steps} 步，但 A1111 随学习率计划结束：{until} 步。",
    "Previews had {width}x{height}; here they have the size of the training.": "预览为 {width}x{height}；这里的预览与训练同尺寸。",
    "The embedding had {value} vectors: create it with as many.": "该嵌入有 {value} 个向量：请用同样多的向量创建。",
    "It started from the word {value}: write it when you create the embedding.": "它从词 {value} 开始：创建嵌入时请写上。",
    "It used dropout, whose rates A1111 does not write down; write them under Hypernetwork dropout structure.": "它用了 dropout，但 A1111 不记录比率；请写在超网络 dropout 结构里。",
    "It was trained on {family}; the settings are meant for that family.": "它在 {family} 上训练；这些设置适用于该系列。",
    "It was trained on {value}, which is not here; choose a checkpoint of its kind.": "它在 {value} 上训练，这里没有；请选择同类模型。",
    "Its pictures ({value}) are not here; choose your own data set.": "它的图片（{value}）不在这里；请选择自己的数据集。",
    "It computed in {value}; here the precision follows the card.": "它用 {value} 计算；这里的精度由显卡决定。",
    "It used a VAE of its own ({value}); choose it beside the checkpoint.": "它用了单独的 VAE（{value}）；请在模型旁选择。",
    "It ran on {cards} cards at once; here that is {value} goes before each change.": "它同时在 {cards} 张卡上运行；这里相当于每步累积 {value} 次。",
    "The algorithm {value} cannot be trained here; choose LoCon, LoHa, LoKr or (IA)3.": "算法 {value} 在这里不能训练；请选择 LoCon、LoHa、LoKr 或 (IA)3。",
    "No rank is written; kohya's trainer takes 4.": "没有写秩；kohya 的训练器取 4。",
    "A rank of {value} means that LoKr's second matrix stays whole: switched on, and the rank is left as it is.": "秩 {value} 表示 LoKr 的第二个矩阵保持完整：已打开，秩保持不变。",
    "Convolutions were whole (rank {value}); here LoKr's full matrix covers them.": "卷积是完整的（秩 {value}）；这里由 LoKr 的完整矩阵代替。",
    "{count} blocks were written; here the text encoder comes before them, at 1.": "写了 {count} 个块；这里在前面加上文本编码器，值为 1。",
    "An alpha of 0 is the rank, at kohya's trainer as here.": "Alpha 为 0 即等于秩，kohya 与这里相同。",
    "Its pictures of the class are not here; new ones are painted from the class word.": "它的类别图片不在这里；会根据类别词重新画。",
    "It kept a class by pictures of it; write a class word and choose prior preservation to do the same.": "它用图片保持类别；要照做，请写类别词并选择先验保持。",
    "Its captions held the word themselves; here the template sets it before them.": "它的描述里已有该词；这里由模板放在描述之前。",
    "kohya's trainer reads the caption alone; here the template sets the word before it: choose another template if your captions hold the word.": (
        "kohya 的训练器只读描述；这里模板会把词放在前面：若描述里已有该词，请换模板。"
    ),
    "{value} pixels became {ours}: a multiple of 8.": "{value} 像素改为 {ours}：8 的倍数。",
    "It painted samples by epochs; here ten are painted in the whole training.": "它按轮画样图；这里整个训练画十次。",
    "It called its subject {value}: the first word is the trigger, the rest its class.": "它把主体叫作 {value}：第一个词是触发词，其余是类别。",
    "{label} {value} is not here; {ours} takes its place.": "这里没有 {label} {value}；用 {ours} 代替。",
    "A rate that suits {value} may not suit {ours}: look at the first previews.": "适合 {value} 的学习率不一定适合 {ours}：请看最初的预览。",
    "Adafactor chose its rate itself (relative_step); here it takes the written one, so write about 1e-4 for a LoRA.": ("Adafactor 自行选择学习率（relative_step）；这里用所写的，LoRA 请写约 1e-4。"),
    "The optimiser's arguments {value} have no counterpart here; they were left out.": "优化器参数 {value} 在这里没有对应，已略去。",
    "Its text encoders had rates of their own ({value}); here both take the highest.": "它的文本编码器各有学习率（{value}）；这里都取最高的。",
    "It predicted velocity (v_parameterization); here that follows the checkpoint.": "它使用 v 预测（v_parameterization）；这里由底模决定。",
    "Settings that are not known here were left out: {names}.": "以下设置这里不认识，已忽略：{names}。",
    "It had {count} folders of pictures; the first one counts here. Import all of them into one data set, or choose a tree of kohya's folders.": (
        "它有 {count} 个图片文件夹，这里只用第一个。请把它们导入同一个数据集，或选择 kohya 的文件夹结构。"
    ),
    "{label} differs between its folders of pictures ({values}); here the first one counts for all.": "{label} 在各图片文件夹中不同（{values}）；这里统一按第一个。",
    "{epochs} epochs of {each} steps are {steps} steps.": "{epochs} 轮，每轮 {each} 步，共 {steps} 步。",
    "It ran for {epochs} epochs, but how many pictures it had is not written; count the steps yourself: epochs times pictures times repeats, divided by the batch.": (
        "它训练了 {epochs} 轮，但没写有多少图片；请自己算步数：轮数乘图片数乘重复次数，再除以批量。"
    ),
    "A warm-up of {share} % of {steps} steps is {value} steps.": "{steps} 步的 {share} % 预热为 {value} 步。",
    "Its warm-up was {share} % of all steps, which are not known; write it yourself.": "预热为全部步数的 {share} %，而步数未知；请自己写。",
    "{label} ({value}) has no counterpart here; it was left out.": "{label}（{value}）在这里没有对应，已略去。",
    "{label} ({value}) is outside what is possible here; it was left out.": "{label}（{value}）超出这里的范围，已略去。",
    "{label} ({value}) is nothing this method has; it was left out.": "{label}（{value}）不属于此方法，已略去。",
}
"""What became of settings of other programs."""
PRESETS: dict[str, str] = {**ADVISED, **CARD, **TAKEN}
"""English to Chinese."""
