"""One pyarrow schema a table, used by writer, reader and test. Rows of the stage tables are aligned by partition.

Journey: PROMPTS -> SAMPLES -> MASKS -> VERDICTS -> SELECTION -> (AUGMENTED) -> MANIFEST and REJECTS. SELECTION
decides on images as they were drawn; what augmentation makes of the accepted ones is judged again. So the scores of a
row are those of its own pixels, as a reader of the dataset decodes them.
A failed sample is a row with status "failed" and an error, never a hole. No table of a stage or a version holds a time
or a host name: equal recipes give equal bytes.
"""

import pyarrow as pa

# A slot is a part of a prompt that was filled in: "concept" or an attribute. `start` and `end` are character offsets.
SLOTS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))
# bbox: x, y, width, height in pixels from the top left (COCO). rle: COCO compressed counts (ASCII).
INSTANCES = pa.list_(
    pa.struct(
        [
            ("slot", pa.string()),
            ("category", pa.string()),
            ("category_id", pa.int32()),
            ("bbox", pa.list_(pa.float32())),
            ("area", pa.int32()),
            ("score", pa.float32()),
            ("rle", pa.string()),
        ]
    )
)
SHA256 = pa.binary(32)
MEMBERS = pa.list_(
    pa.struct([("field", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("sha256", SHA256)])
)

PROMPTS = pa.schema(
    [
        ("prompt_index", pa.int32()),
        ("source", pa.string()),  # which template or expander wrote it, "template:0"; partitions never mix sources
        ("text", pa.string()),
        ("slots", SLOTS),
    ]
)

IDENTITY = [
    ("sample_id", pa.string()),
    ("concept", pa.string()),
    ("prompt_index", pa.int32()),
    ("replica", pa.int32()),
    ("attempt", pa.int32()),
    ("seed", pa.uint64()),
    ("prompt", pa.string()),
    ("slots", SLOTS),
]

# What a search aims at: a row a reference photograph, then a row a plain sample of the concept.
AIMS = pa.schema(
    [
        ("kind", pa.string()),  # "reference" or "plain"
        ("sha256", pa.string()),  # of the photograph's file; null for plain samples
        ("feature", pa.list_(pa.float32())),  # as the encoder gives it, not normalised
        ("latent", pa.binary()),  # .npy of float32 [C, h, w]; null for plain samples
    ]
)

# Noises that a search found in full, for images that start from a mix with one of them.
SEEDS = pa.schema(
    [
        ("sample_id", pa.string()),  # of no image: it names the random draws
        ("prompt", pa.string()),
        ("noise", pa.binary()),  # .npy of float16 [C, h, w]
        ("confidence", pa.float32()),  # null where the engine has no stop
        ("record", pa.string()),  # canonical JSON: how it was found
    ]
)

OUTCOME = [("status", pa.string()), ("error", pa.string())]  # "ok" or "failed"; error is null when ok

# What a run of an inversion made: a row a sample of any concept.
INVERSIONS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("label", pa.int32()),  # class of the teacher
        *OUTCOME,
        ("image", pa.binary()),  # lossless PNG, RGB
        ("attention", pa.binary()),  # .npy of float16 [1, h, w]: the teacher's class-activation map of the label
        (
            "record",
            pa.string(),
        ),  # canonical JSON: losses, channel scales, the teacher's logits, how it ended
    ]
)

SAMPLES = pa.schema(
    [
        *IDENTITY,
        *OUTCOME,
        ("image", pa.binary()),  # lossless PNG, RGB
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("attention", pa.binary()),  # .npy of float16 [slot, h, w]: soft map of every slot, rows as in `slots`
        # 0..1, a number a slot: how well early and late readings of the map agree; null where there was one, or none
        ("attention_agreement", pa.list_(pa.float32())),
        ("noise", pa.binary()),  # .npy of float16 [C, h, w]: what a searching engine started from; null for plain noise
        ("engine", pa.string()),
        ("provenance", pa.string()),  # canonical JSON: steps, guidance, scheduler, batch, library versions, digests
    ]
)

# What the annotation measured of the concept; zero where there is no mask.
MASK_SCORES = [
    ("mask_area", pa.float32()),  # fraction of the image
    ("mask_confidence", pa.float32()),  # 0..1: expected intersection over union with the truth
    ("mask_contrast", pa.float32()),  # mean soft map inside minus outside
    ("mask_separability", pa.float32()),  # of the soft map: variance between Otsu's classes over all of it
    ("mask_presence", pa.float32()),  # raw peak over raw mean of the soft map
    ("mask_components", pa.int32()),
    ("mask_largest_share", pa.float32()),  # of the largest component in the mask's area
    ("mask_agreement", pa.float32()),  # of early and late readings, 0..1; null where there was one reading
]

MASKS = pa.schema(
    [
        ("sample_id", pa.string()),
        *OUTCOME,
        ("mask", pa.binary()),  # indexed PNG of the image's size: 0 background, category_id, 255 ignore
        ("instances", INSTANCES),
        *MASK_SCORES,
        ("mask_source", pa.string()),  # cross_attention, class_activation or renoised_attention
    ]
)

# Scores of the image itself; null where a cheaper gate rejected the sample before they were computed.
IMAGE_SCORES = [
    ("brightness", pa.float32()),  # mean luma, 0..1
    ("contrast", pa.float32()),  # standard deviation of luma, 0..1
    ("clipped", pa.float32()),  # fraction of pixels at the ends of the range
    ("sharpness", pa.float32()),  # variance of the Laplacian of luma in 0..255
    ("clip_score", pa.float32()),  # cosine of image and caption
    ("concept_margin", pa.float32()),  # cosine with the right concept minus the best other concept
    ("reference_similarity", pa.float32()),  # largest cosine with a reference photograph of the concept
    ("crop_score", pa.float32()),  # cosine of the concept's box, cut out, and its name; null without a mask
    ("teacher_agreement", pa.float32()),  # probability of the concept by the classifier that the image was made from
    ("verifier_agreement", pa.float32()),  # the same by an independent classifier
]

VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),
        *OUTCOME,
        *IMAGE_SCORES,
        ("mask_area", pa.float32()),
        ("mask_confidence", pa.float32()),
        ("phash", pa.uint64()),  # 64-bit perceptual hash; null when there is no image
        ("accepted", pa.bool_()),
        ("reason", pa.string()),  # null when accepted
    ]
)

# One row a sample of the whole build: what was decided when all verdicts were known.
SELECTION = pa.schema(
    [
        ("sample_id", pa.string()),
        ("concept", pa.string()),
        ("partition", pa.int32()),  # index into the build's list of partitions
        ("row", pa.int32()),  # row in that partition's tables
        ("accepted", pa.bool_()),
        ("reason", pa.string()),
        ("split", pa.string()),  # null when rejected
    ]
)

# What persons decided on samples of a dataset; the one table with a time, and no version follows from that.
REVIEWS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("image", pa.string()),  # sha256 of the PNG that was looked at: the decision counts only for that
        ("decision", pa.string()),  # "accept" or "reject"
        ("reason", pa.string()),  # in the person's words; empty where none was given
        ("reviewer", pa.string()),
        ("decided_at", pa.string()),  # ISO 8601, UTC
    ]
)

# The components of one explained sample; what is null was not measured of that component.
EXPLANATION = pa.schema(
    [
        ("component", pa.int32()),
        ("patches", pa.list_(pa.int32())),  # its field: patches of the grid, line by line
        ("strength", pa.float32()),  # norm of its change of the feature, in spreads of the channels
        ("residual", pa.float32()),  # the worst demand that it rests on
        ("reported", pa.bool_()),  # whether that passed the gate
        ("shown", pa.int32()),  # its row in the arrays beside this table
        ("energy", pa.float32()),  # squared change of the image where it is removed
        ("containment", pa.float32()),  # share of that inside its field
        ("real_patches", pa.list_(pa.int32())),
        ("region_energy", pa.float32()),
        ("region_share", pa.float32()),
        ("region_rank", pa.int32()),  # 1: the most responsible for the region
    ]
)

# What of MASK_SCORES a finished mask tells; the others are of the soft map that it was cut from.
SHAPE_SCORES = ("mask_area", "mask_components", "mask_largest_share")

AUGMENTED = pa.schema(
    [
        ("sample_id", pa.string()),  # the new sample's own id; equals parent_id when augmented in place
        ("parent_id", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mask", pa.binary()),
        ("instances", INSTANCES),
        *((name, kind) for name, kind in MASK_SCORES if name in SHAPE_SCORES),
        ("augmentation", pa.string()),  # canonical JSON: the replay parameters
        *IMAGE_SCORES,
        ("phash", pa.uint64()),
        ("reason", pa.string()),  # why it is not published; in place the image then stays as it was drawn
    ]
)

_PUBLISHED = [
    ("sample_id", pa.string()),
    ("parent_id", pa.string()),  # null unless an augmented copy
    ("concept", pa.string()),
    ("class_id", pa.int32()),
    ("caption", pa.string()),
    ("slots", SLOTS),
    ("prompt_index", pa.int32()),
    ("replica", pa.int32()),
    ("attempt", pa.int32()),
    ("seed", pa.uint64()),
    ("engine", pa.string()),
    ("provenance", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    *IMAGE_SCORES,
    *MASK_SCORES,
    ("mask_source", pa.string()),
    ("instances", INSTANCES),
    ("phash", pa.uint64()),
    ("augmentation", pa.string()),
    ("digital_source_type", pa.string()),
]

MANIFEST = pa.schema(
    [
        *_PUBLISHED,
        ("split", pa.string()),
        ("shard", pa.string()),  # file name under shards/
        ("members", MEMBERS),  # offset and size of the member's data inside the tar
    ]
)

REJECTS = pa.schema([*_PUBLISHED, *OUTCOME, ("reason", pa.string())])
