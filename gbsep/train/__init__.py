"""Training: endless guitar and bass music with its true stems, and the loop that fits the `compact` network to it.

    instruments  single notes of many instruments: recorded, from soundfonts, from a string model
    styles       ways of playing one bar: chords, riffs, lines
    scores       what is played: keys, chords, ways of playing, rests
    generator    scores played on instruments through amps: dry, aligned stems
    pool         rendered stems on disk, small enough to be held in memory whole
    mixing       batches of mixtures with their true bass, on the training device
    objective    what the embedded network learns from them
    finetune     the embedded network or a Demucs checkpoint on songs of one's own
    loop         the optimisation, whatever is learnt, resumable to the last bit

Everything follows from a seed: a batch depends on (seed, step) alone, so a resumed run equals an unbroken one.
"""
