// Where a split leaves a head's unnormalised sum, and after all of these its (highest score, sum of exponentials).
fn partial_at(split: u32, head: u32) -> u32 {
    return (split * HEADS + head) * HEAD_ROOM;
}

fn stats_at(split: u32, head: u32) -> u32 {
    return MAX_SPLITS * HEADS * HEAD_ROOM + (split * HEADS + head) * 2u;
}
