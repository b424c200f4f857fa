"""One pyarrow schema per table, shared by writers, readers and tests. Rows of the stages' tables match by partition.

The order of the tables: ADAPTATIONS (optional), PROMPTS, SAMPLES, MASKS, VERDICTS, SELECTION, AUGMENTED (optional),
MANIFEST and REJECTS.
SELECTION decides on images before augmentation. The gates judge augmented images again, so a row's scores always
belong to its own pixels, as a reader of the dataset decodes them.

A failed sample is a row with status "failed" and an error, never a missing row. No table of a stage or a version holds
a time or a host name, so equal recipes lead to equal bytes.
"""

import pyarrow as pa

SLOTS = pa.list_(
    pa.struct(
        [
            ("name", pa.string()),  # "concept", or the name of an attribute
            ("value", pa.string()),  # the word or words in the prompt
            ("start", pa.int32()),  # first character in the prompt, from 0
            ("end", pa.int32()),  # character after the last
        ]
    )
)
INSTANCES = pa.list_(
    pa.struct(
        [
            ("slot", pa.string()),  # name of the slot with the object's word
            ("category", pa.string()),  # name of the category
            ("category_id", pa.int32()),  # 1..254: value of the category in the mask
            ("bbox", pa.list_(pa.float32())),  # x, y, width, height in pixels from the top left (COCO)
            ("area", pa.int32()),  # pixels
            ("score", pa.float32()),  # 0..1: confidence
            ("rle", pa.string()),  # region as COCO's compressed run lengths, ASCII
            ("crowd", pa.bool_()),  # whether the region holds several objects that could not be separated
        ]
    )
)
# Type of `instances` in versions that were published before crowds.
UNCROWDED = pa.list_(pa.struct([field for field in INSTANCES.value_type if field.name != "crowd"]))


def is_published_type(field: pa.Field, schema: pa.Schema) -> bool:
    """Return whether a column of `schema` has its type there, or the type that older versions have."""
    if field.name == "instances" and field.type == UNCROWDED:
        return True
    return bool(field.equals(schema.field(field.name)))


SHA256 = pa.binary(32)
MEMBERS = pa.list_(
    pa.struct(
        [
            ("field", pa.string()),  # file name extension, such as png or seg.png
            ("offset", pa.int64()),  # first byte of the data in the tar
            ("size", pa.int64()),  # bytes of the data
            ("sha256", SHA256),  # digest of the data
        ]
    )
)

ADAPTATIONS = pa.schema(
    [
        ("step", pa.int32()),  # optimiser steps at the measurement
        ("error", pa.float64()),  # denoising error of the averaged weights
        ("classes", pa.list_(pa.string())),  # class per row of the pictures; empty without classes
        ("pictures", pa.binary()),  # sheet of drawn pictures, PNG; null without pictures
    ]
)

PROMPTS = pa.schema(
    [
        ("prompt_index", pa.int32()),  # position in the concept's list of prompts, from 0
        ("source", pa.string()),  # template or expander of the prompt, "template:0"; partitions never mix sources
        ("text", pa.string()),  # the prompt
        ("slots", SLOTS),  # filled slots of the prompt; `start` and `end` are characters
    ]
)

IDENTITY = [
    ("sample_id", pa.string()),  # unique id of the sample
    ("concept", pa.string()),  # name of the concept
    ("prompt_index", pa.int32()),  # position of the prompt in the concept's list, from 0
    ("replica", pa.int32()),  # number of earlier uses of the prompt in the same round
    ("attempt", pa.int32()),  # round, from 0
    ("seed", pa.uint64()),  # seed of the image's noise
    ("prompt", pa.string()),  # text for the generator
    ("slots", SLOTS),  # filled slots of the prompt; `start` and `end` are characters
]

# The aim of a search: one row per reference photograph, then one row per plain sample of the concept.
AIMS = pa.schema(
    [
        ("kind", pa.string()),  # "reference" or "plain"
        ("sha256", pa.string()),  # digest of the photograph's file; null for plain samples
        ("feature", pa.list_(pa.float32())),  # [D]: output of the encoder, not normalised
        ("latent", pa.binary()),  # .npy of float32 [C, h, w]; null for plain samples
    ]
)

# Noises from full searches. Images start from mixes with them.
SEEDS = pa.schema(
    [
        ("sample_id", pa.string()),  # id for the random numbers; no image has it
        ("prompt", pa.string()),  # prompt of the search
        ("noise", pa.binary()),  # .npy of float16 [C, h, w]
        ("confidence", pa.float32()),  # 0: like plain samples, 1: like the references; null for an engine without stop
        ("record", pa.string()),  # canonical JSON: course of the search
    ]
)

OUTCOME = [
    ("status", pa.string()),  # "ok" or "failed"
    ("error", pa.string()),  # message of the failure; null when ok
]

# The images of one run of an inversion: one row per sample of any concept.
INVERSIONS = pa.schema(
    [
        ("sample_id", pa.string()),  # unique id of the sample
        ("label", pa.int32()),  # class of the teacher, from 0
        *OUTCOME,
        ("image", pa.binary()),  # lossless PNG, RGB
        ("attention", pa.binary()),  # .npy of float16 [1, h, w]: the teacher's class-activation map of the label
        ("record", pa.string()),  # canonical JSON: losses, channel scales, the teacher's logits, reason of the end
    ]
)

SAMPLES = pa.schema(
    [
        *IDENTITY,
        *OUTCOME,
        ("image", pa.binary()),  # lossless PNG, RGB; null if none was made
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),  # pixels
        ("attention", pa.binary()),  # .npy of float16 [slot, h, w]: soft map per slot, rows as in `slots`
        # 0..1 per slot: agreement of early and late readings of the map; null with fewer than two readings
        ("attention_agreement", pa.list_(pa.float32())),
        ("noise", pa.binary()),  # .npy of float16 [C, h, w]: start of a searching engine; null for plain noise
        ("engine", pa.string()),  # kind of engine
        ("provenance", pa.string()),  # canonical JSON: steps, guidance, scheduler, batch, library versions, digests
    ]
)

# Measurements of the concept's mask; zero without a mask.
MASK_SCORES = [
    ("mask_area", pa.float32()),  # 0..1: share of the image
    ("mask_confidence", pa.float32()),  # 0..1: expected intersection over union with the truth
    ("mask_contrast", pa.float32()),  # -1..1: mean soft map inside minus outside
    ("mask_separability", pa.float32()),  # 0..1: share of the soft map's variance between Otsu's two classes
    ("mask_presence", pa.float32()),  # peak of the raw soft map over its mean: 1 for a flat map, 0 without a mask
    ("mask_components", pa.int32()),  # connected components
    ("mask_largest_share", pa.float32()),  # 0..1: share of the largest component in the mask's area
    (
        "mask_agreement",
        pa.float32(),
    ),  # 0..1: agreement of early and late readings, or of mask and attention; null if unknown
]

MASKS = pa.schema(
    [
        ("sample_id", pa.string()),  # unique id of the sample
        *OUTCOME,
        ("mask", pa.binary()),  # indexed PNG at the image's size: 0 background, category_id, 255 ignore
        ("instances", INSTANCES),  # one record per object: COCO box and area in pixels, score 0..1, run lengths
        *MASK_SCORES,
        ("mask_source", pa.string()),  # cross_attention, class_activation, renoised_attention or changed_region
    ]
)

# Scores of the image itself; null if a cheaper gate rejected the sample before.
IMAGE_SCORES = [
    ("brightness", pa.float32()),  # 0..1: mean luma
    ("contrast", pa.float32()),  # 0..1: standard deviation of luma
    ("clipped", pa.float32()),  # 0..1: share of pixels at the ends of the luma range
    ("sharpness", pa.float32()),  # 0 or more: variance of the Laplacian of luma in 0..255
    ("clip_score", pa.float32()),  # -1..1: cosine of image and caption
    ("concept_margin", pa.float32()),  # -2..2: cosine with the right concept minus the best other concept
    ("reference_similarity", pa.float32()),  # -1..1: largest cosine with a reference photograph of the concept
    ("crop_score", pa.float32()),  # -1..1: cosine of the concept's box, cut out, and its name; null without a mask
    ("teacher_agreement", pa.float32()),  # 0..1: probability of the concept by the inverted classifier
    ("verifier_agreement", pa.float32()),  # 0..1: probability of the concept by an independent classifier
]

VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),  # unique id of the sample
        *OUTCOME,
        *IMAGE_SCORES,
        ("mask_area", pa.float32()),  # 0..1: share of the image, as in MASKS
        ("mask_confidence", pa.float32()),  # 0..1: expected intersection over union with the truth, as in MASKS
        ("phash", pa.uint64()),  # 64-bit perceptual hash; null without an image
        ("accepted", pa.bool_()),  # whether the image passed the gates
        ("reason", pa.string()),  # reason of the rejection; null when accepted
    ]
)

# The decision on all samples of the build, one row per sample, after all verdicts.
SELECTION = pa.schema(
    [
        ("sample_id", pa.string()),  # unique id of the sample
        ("concept", pa.string()),  # name of the concept
        ("partition", pa.int32()),  # index in the build's list of partitions, from 0
        ("row", pa.int32()),  # row in that partition's tables, from 0
        ("accepted", pa.bool_()),  # whether the version publishes the sample
        ("reason", pa.string()),  # reason of the rejection, or "surplus"; null when accepted
        ("split", pa.string()),  # train, validation or test; null when rejected
    ]
)

# Decisions of people on samples of a dataset. Only this table holds times, and no version depends on them.
REVIEWS = pa.schema(
    [
        ("sample_id", pa.string()),  # unique id of the sample
        ("image", pa.string()),  # sha256 of the reviewed PNG; the decision applies to this image only
        ("decision", pa.string()),  # "accept" or "reject"
        ("reason", pa.string()),  # the person's words, possibly empty
        ("reviewer", pa.string()),  # name of the person, possibly empty
        ("decided_at", pa.string()),  # ISO 8601, UTC
    ]
)

# The components of one explained sample. A null value was not measured.
EXPLANATION = pa.schema(
    [
        ("component", pa.int32()),  # position in the decomposition, from 0
        ("patches", pa.list_(pa.int32())),  # the component's field: patches of the grid, row by row from 0
        ("strength", pa.float32()),  # norm of the feature's change, in units of the channels' spreads
        ("residual", pa.float32()),  # largest residual among the demands behind the component
        ("reported", pa.bool_()),  # whether that residual passed the gate
        ("shown", pa.int32()),  # row in the arrays that accompany this table, from 0
        ("energy", pa.float32()),  # squared change of the image (values -1..1) without the component, summed
        ("containment", pa.float32()),  # 0..1: share of the energy inside the field
        ("real_patches", pa.list_(pa.int32())),  # patches that change visibly without the component
        ("region_energy", pa.float32()),  # part of the energy inside the traced region
        ("region_share", pa.float32()),  # 0..1: share of the energy inside the traced region
        ("region_rank", pa.int32()),  # 1: most responsible for the traced region
    ]
)

# The part of MASK_SCORES that depends on the mask's shape; the others need its soft map.
SHAPE_SCORES = ("mask_area", "mask_components", "mask_largest_share")

AUGMENTED = pa.schema(
    [
        ("sample_id", pa.string()),  # id of a copy; equals parent_id after augmentation in place
        ("parent_id", pa.string()),  # id of the original sample
        ("image", pa.binary()),  # lossless PNG, RGB
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),  # pixels
        ("mask", pa.binary()),  # indexed PNG at the image's size: 0 background, category_id, 255 ignore
        ("instances", INSTANCES),  # one record per object: COCO box and area in pixels, score 0..1, run lengths
        *((name, kind) for name, kind in MASK_SCORES if name in SHAPE_SCORES),
        ("augmentation", pa.string()),  # canonical JSON: parameters that repeat the augmentation
        *IMAGE_SCORES,
        ("phash", pa.uint64()),  # 64-bit perceptual hash
        ("reason", pa.string()),  # reason against publishing; in place, the original image then stays
    ]
)

_PUBLISHED = [
    ("sample_id", pa.string()),  # unique id of the sample
    ("parent_id", pa.string()),  # id of the original of an augmented copy, else null
    ("concept", pa.string()),  # name of the concept
    ("class_id", pa.int32()),  # class of the concept, from 0
    ("caption", pa.string()),  # the prompt of the image
    ("slots", SLOTS),  # filled slots of the prompt; `start` and `end` are characters
    ("prompt_index", pa.int32()),  # position of the prompt in the concept's list, from 0
    ("replica", pa.int32()),  # number of earlier uses of the prompt in the same round
    ("attempt", pa.int32()),  # round, from 0
    ("seed", pa.uint64()),  # seed of the image's noise
    ("engine", pa.string()),  # kind of engine
    ("provenance", pa.string()),  # canonical JSON: steps, guidance, scheduler, batch, library versions, digests
    ("width", pa.int32()),  # pixels
    ("height", pa.int32()),  # pixels
    *IMAGE_SCORES,
    *MASK_SCORES,
    ("mask_source", pa.string()),  # cross_attention, class_activation, renoised_attention or changed_region
    ("instances", INSTANCES),  # one record per object: COCO box and area in pixels, score 0..1, run lengths
    ("phash", pa.uint64()),  # 64-bit perceptual hash
    ("augmentation", pa.string()),  # canonical JSON: parameters that repeat the augmentation; null without one
    ("digital_source_type", pa.string()),  # address of the IPTC term: made by a trained model, or a composite
]

MANIFEST = pa.schema(
    [
        *_PUBLISHED,
        ("split", pa.string()),  # train, validation or test
        ("shard", pa.string()),  # file name in shards/
        ("members", MEMBERS),  # one record per file of the sample: bytes of its data in the tar, and sha256
    ]
)

REJECTS = pa.schema(
    [
        *_PUBLISHED,
        *OUTCOME,
        ("reason", pa.string()),  # reason of the rejection, or "surplus"
    ]
)

# The measurements of one trained model on validation images, one row per step and strength of adjustment.
TRIALS = pa.schema(
    [
        ("step", pa.int32()),  # optimiser steps so far
        ("strength", pa.float64()),  # factor of the log frequencies that logits lose
        ("macro", pa.float64()),  # 0..1: mean score over classes
        ("scores", pa.list_(pa.float64())),  # 0..1 per class: recall, or intersection over union of masks
        ("chosen", pa.bool_()),  # whether validation prefers this row; its weights are kept beside the table
    ]
)

# The accepted images of one round of a steered build, one row per image, and which of them are kept.
PREFERENCES = pa.schema(
    [
        ("sample_id", pa.string()),  # id of the sample
        ("concept", pa.string()),  # name of the concept
        ("partition", pa.int32()),  # number of its partition within the round
        ("row", pa.int32()),  # row in the partition
        ("entropy", pa.float64()),  # nats: how unsure the classifier of the round before is of its class
        ("probability", pa.float64()),  # 0..1: of the concept, by the verifier, a classifier of real images alone
        ("reason", pa.string()),  # why it is not kept; null for a kept image
    ]
)

# The decision on one round of a steered build, one row per concept.
ALLOCATION = pa.schema(
    [
        ("round", pa.int32()),  # number of the round, from 0
        ("concept", pa.string()),  # name of the concept
        ("images", pa.int32()),  # images to draw in this round
        ("drawn", pa.int32()),  # images drawn before it
        ("kept", pa.int32()),  # images kept before it
        ("recall", pa.float64()),  # 0..1: on validation images, before the round
        ("validation", pa.int32()),  # validation images of the class
        ("gain", pa.float64()),  # expected gain of recall per kept image
        ("deviation", pa.float64()),  # its standard deviation
        ("chance", pa.float64()),  # 0..1: of being the concept of the largest gain per cost
        ("macro_recall", pa.float64()),  # 0..1: mean recall over all real classes, before the round
        ("expected", pa.float64()),  # recall of a concept that 100 drawn images of the round are expected to add
        ("spread", pa.float64()),  # its standard deviation
        ("stop", pa.string()),  # why steering ends before the round: full, budget, rounds, gain; null if it does not
    ]
)

# What one trained model finds in the test images, one row per image. A unit is the image, or a pixel of its mask.
EVALUATIONS = pa.schema(
    [
        ("image", pa.string()),  # the image's name in its source
        ("label", pa.list_(pa.int32())),  # classes of units, from 0: one entry per pair of label and class found
        ("found", pa.list_(pa.int32())),  # likeliest class of these units
        ("units", pa.list_(pa.int64())),  # number of these units
        ("gaps", pa.list_(pa.float64())),  # right units less confidences, summed per bin of confidence
    ]
)

# The runs of one evaluation of a version, one row per arm, setting and seed. Test figures of other settings are null.
EVALUATION_RUNS = pa.schema(
    [
        ("arm", pa.string()),  # name of the arm, or "curve"
        ("setting", pa.string()),  # share and augmentation, or images of a learning curve; empty with one setting
        ("seed", pa.int64()),  # seed of weights, draws and changes
        ("step", pa.int32()),  # step that validation chose
        ("strength", pa.float64()),  # strength of the adjustment that validation chose
        ("validation_macro", pa.float64()),  # 0..1: mean score over classes on validation
        ("validation_tail", pa.float64()),  # 0..1: mean score over rare classes on validation
        ("chosen", pa.bool_()),  # whether validation chose the setting for its arm
        ("macro", pa.float64()),  # 0..1: mean score over classes on test
        ("tail", pa.float64()),  # 0..1: mean score over rare classes on test
        ("calibration_error", pa.float64()),  # 0..1: expected calibration error on test
        ("scores", pa.list_(pa.float64())),  # 0..1 per class on test: recall, or intersection over union of masks
    ]
)
