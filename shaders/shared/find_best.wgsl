// The best tokens of a pyramid, exactly and in order, by one workgroup.
@group(0) @binding(3) var<storage, read> pyramids: array<u32>;

const NONE: u32 = 0xffffffffu;

// What is being sorted.
var<workgroup> keys: array<u32, 1024>;
var<workgroup> ids: array<u32, 1024>;
var<workgroup> parents: array<u32, MAX_CANDIDATES>;

// The power of two that is at least n.
fn power(n: u32) -> u32 {
    return 1u << (32u - countLeadingZeros(n - 1u));
}

// Best first: a bitonic network. Equal keys by id.
fn sort(n: u32, t: u32) {
    for (var size = 2u; size <= n; size *= 2u) {
        for (var stride = size / 2u; stride > 0u; stride /= 2u) {
            for (var i = t; i < n / 2u; i += WG) {
                let a = 2u * i - i % stride;
                let b = a + stride;
                let b_is_better = keys[b] > keys[a] || (keys[b] == keys[a] && ids[b] < ids[a]);
                if (b_is_better == ((a & size) == 0u)) {
                    let key = keys[a];
                    let id = ids[a];
                    keys[a] = keys[b];
                    ids[a] = ids[b];
                    keys[b] = key;
                    ids[b] = id;
                }
            }
            workgroupBarrier();
        }
    }
}

// From the best `count` groups to the best `count` of the level below: these are their children, for each other group
// has nothing that is better than `count` highest ones.
fn descend(level: u32, count: u32, t: u32) {
    if (t < count) {
        parents[t] = select(NONE, ids[t], keys[t] != NO_KEY);
    }
    workgroupBarrier();
    let n = power(8u * count);
    for (var i = t; i < n; i += WG) {
        var key = NO_KEY;
        var id = NONE;
        if (i < 8u * count) {
            let parent = parents[i / 8u];
            if (parent != NONE) {
                id = 8u * parent + i % 8u;
                key = pyramids[level + id];
            }
        }
        keys[i] = key;
        ids[i] = id;
    }
    workgroupBarrier();
    sort(n, t);
}

// Leaves the best `count` tokens in `keys` and `ids`, best first.
fn find_best(pyramid: u32, count: u32, t: u32) {
    let n = max(power(CHUNKS), power(count));
    for (var i = t; i < n; i += WG) {
        var key = NO_KEY;
        if (i < CHUNKS) {
            key = pyramids[pyramid + TOPS + i];
        }
        keys[i] = key;
        ids[i] = i;
    }
    workgroupBarrier();
    sort(n, t);
    descend(pyramid + SIXTY_FOURTHS, count, t);
    descend(pyramid + EIGHTS, count, t);
    descend(pyramid, count, t);
}
