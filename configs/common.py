"""Every default of the project, defined once. The other configs change what differs.

stg_jax/config.py holds the type and the range of each value. Tags after a value name its source
(docs/model.md): [P] printed by the authors, [2] second hand, [R] recalled, [D] our decision.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Build the paper's full model with its training defaults; the user sets `data.dir`."""
    config = ConfigDict()
    config.seed = 0
    config.data = _data()
    config.toy = _toy()
    config.model = _model()
    config.loss = _loss()
    config.kd = _kd()
    config.optim = _optim()
    config.train = _train()
    config.scst = _scst()
    config.profile = _profile()
    config.decode = _decode()
    return config.lock()


def _data() -> ConfigDict:
    data = ConfigDict()
    data.dir = ''  # a folder written by launch/prepare.py
    data.toy_clips = ''  # if set, the toy world is rendered into `dir` unless that exists
    data.frames = 10  # T, sampled uniformly over the clip [2]
    data.objects = 5  # N, per frame; any number up to what the shards hold [2]
    data.appearance_dim = 2048  # C2, ResNet-101 [2]
    data.motion_dim = 1024  # C3, I3D [2]
    data.object_dim = 2048  # Co, RoI features [R]
    data.grid_cells = 0  # G, cells of the grid of a frame; 0: the grid is not read [D]
    data.grid_dim = 0  # Cg, numbers of a cell
    data.object_dropout = 0.0  # share of the objects that are left out in training [D]
    data.feature_dropout = 0.0  # share of the feature values that are zeroed in training [D]
    data.feature_noise = 0.0  # noise on features in training, in their standard deviations [D]
    data.frame_jitter = 0  # in training, frames come from up to n places away [D]
    data.captions_per_clip = 4  # K: a clip is encoded once and decoded K times [D]
    data.eval_captions = 5  # captions per clip in the validation loss [D]
    data.max_words = 20  # longer captions are cut; covers 99.6 % of MSVD [D]
    data.min_count = 1  # words rarer than this in the train captions become UNK [D]
    data.order = (
        'global'  # the same batches on any number of hosts | per_host, advanced: own shards
    )
    data.shuffle_buffer = 1024  # records; one full-size record is about 0.27 MB [D]
    data.cache = 'none'  # none: stream | host: keep in its memory | device: in accelerators' [D]
    return data


def _toy() -> ConfigDict:
    toy = ConfigDict()  # of the rendered world, where data.toy_clips asks for one
    toy.seed = 0  # another one gives other scenes
    toy.distractors = 0  # things added to those that are drawn, up to six in a picture
    toy.captions = 6  # of a clip, at most
    toy.held_out = 'triples'  # triples | kinds: what is unseen in training, events or things
    toy.detector_dropout = 0.0  # share of the objects that the detector misses
    toy.detector_jitter = 0.0  # displacement of its boxes, as a share of their size
    return toy


def _model() -> ConfigDict:
    model = ConfigDict()
    model.branches = 'full'  # full | scene | object
    model.fusion = 'none'  # none | concat: one decoder over both branches' features
    model.width = 512  # D [2]
    model.heads = 8  # [2]
    model.feedforward = 1024  # [2]
    model.encoder_layers = 2  # [2]
    model.decoder_layers = 2  # [2]
    model.dropout = 0.3  # [2]
    model.attention_dropout = 0.0  # of attention weights [D]
    model.token_dropout = 0.0  # share of the positions that a decoder does not see in training [D]
    model.scene_fusion = 'channel'  # channel | time: which concatenation of the two inputs [2]
    model.graph = 'full'  # full | spatial | temporal | dense
    model.graph_layers = 3  # [2]
    model.graph_norm = 'none'  # none | layer: inside the graph convolution [P: none]
    model.temporal_direction = 'literal'  # literal | forward | both
    model.box_embedding = False  # adds an embedding of its box to every node [D]
    # What the decoders read: 'mean' and 'frames', one vector a frame, are the paper's [P].
    model.object_memory = 'mean'  # mean | nodes: the objects of a frame averaged, or each of them
    model.scene_tokens = 'frames'  # frames | grid: vectors of frames, or the cells before them
    model.grid_frames = 1  # frames in a row whose cells one token joins [D]
    model.grid_poolings = 1  # times both sides of the grid are halved, by a maximum [D]
    model.dtype = 'float32'  # or bfloat16: of the computation; parameters stay float32
    return model


def _loss() -> ConfigDict:
    loss = ConfigDict()
    loss.scene_weight = 1.0  # lambda_sl [R]
    loss.kd_weight = 4.0  # lambda_d [R]
    loss.label_smoothing = 0.0  # touches cross-entropy only [D]
    loss.consensus = 0.0  # 1: a caption weighs what its CIDEr against the others of its clip is [D]
    loss.r_drop = 0.0  # weight of the divergence between two passes with other dropout; 0: one [D]
    return loss


def _kd() -> ConfigDict:
    kd = ConfigDict()
    kd.kind = 'kl'  # kl | l2 (between pooled branch features) [P]
    kd.direction = 'student'  # student: KL(scene || object) [P] | teacher: KL(object || scene)
    kd.detach_teacher = False  # [P: joint objective]
    kd.temperature = 1.0  # [P: none]
    return kd


def _optim() -> ConfigDict:
    optim = ConfigDict()
    optim.lr = 1e-4  # Adam, constant after warm-up [R]
    # Of the learning rate: none | cosine, linear: to zero at the last step | exponential [D]
    optim.decay = 'none'
    optim.decay_rate = 0.9  # factor of each epoch where decay is exponential [D]
    optim.weight_decay = 0.0  # of matrices, decoupled from the gradient (AdamW) [D]
    optim.warmup = 0.05  # share of all steps [D]
    optim.clip = 1.0  # global gradient norm [D]
    return optim


def _train() -> ConfigDict:
    train = ConfigDict()
    train.objective = 'xe'  # xe: cross-entropy | scst: CIDEr of sampled captions, and some xe [D]
    train.init_from = ''  # a run, an exported model or hf://USER/NAME whose weights to start from
    train.batch_size = 64  # captions per optimiser step, over all devices [D]
    train.accumulate = 1  # micro-batches per optimiser step, to fit large batches in memory
    train.steps_per_execution = 1  # steps dispatched as one program, fewer than an epoch has [D]
    train.ema = 0.0  # decay of an average of the weights, which is used in their place; 0: off [D]
    train.epochs = 30  # an epoch shows as many captions as the train split has [D]
    train.patience = 10  # epochs without a better validation score before stopping; 0: never
    train.select = 'best'  # best on validation | last: which epoch is deployed [D]
    train.keep_best = 1  # checkpoints to keep, the best on validation, besides the latest
    train.checkpoint_steps = 0  # also save every n steps; 0: only after epochs
    train.log_steps = 20  # steps between lines of metrics.jsonl; 0: none
    train.track = 'tensorboard'  # event files | wandb, trackio: and a run there | none
    return train


def _scst() -> ConfigDict:
    scst = ConfigDict()  # where train.objective = 'scst'
    scst.samples = 5  # captions of a clip that are drawn in each step [D]
    scst.xe_weight = 0.1  # of the cross-entropy beside the expected CIDEr; 0: none [D]
    return scst


def _profile() -> ConfigDict:
    profile = ConfigDict()
    profile.start = 0  # the first step to trace into WORKDIR/profile; 0: none
    profile.steps = 5  # steps to trace, within one epoch
    return profile


def _decode() -> ConfigDict:
    decode = ConfigDict()
    decode.beam_size = 5  # 1: greedy
    decode.length_penalty = 0.6  # alpha of ((5 + length) / 6) ** alpha; 0: plain log-probability
    decode.batch_size = 128  # clips decoded at once on each device, at most [D]
    return decode
