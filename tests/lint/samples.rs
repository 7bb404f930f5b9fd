//! Small kernels that the lint must refuse at the marked lines, and ones that it must let pass.

use super::check;
use naga::valid::{Capabilities, ValidationFlags, Validator};

const PRELUDE: &str = "
struct Params { count: u32, flag: u32, reserved0: u32, reserved1: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
var<workgroup> tile: array<u32, 64>;
var<workgroup> counter: atomic<u32>;
";
const ENTRY: &str = "
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
";

/// Runs the lint on a body, behind functions that it may call; the lines that end in `// refused` must be the ones reported.
fn expect(functions: &str, body: &str) {
    let text = format!("enable wgpu_cooperative_matrix;{PRELUDE}{functions}{ENTRY}{body}\n}}\n");
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
    // Without naga's own, simpler uniformity check.
    let flags = ValidationFlags::all() - ValidationFlags::CONTROL_FLOW_UNIFORMITY;
    let valid =
        Validator::new(flags, Capabilities::SUBGROUP | Capabilities::SUBGROUP_BARRIER | Capabilities::COOPERATIVE_MATRIX).validate(&module);
    valid.unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));

    let got: Vec<usize> = check(&module).iter().map(|fault| text[..fault.at].lines().count()).collect();
    let expected: Vec<usize> = text.lines().enumerate().filter(|(_, line)| line.ends_with("// refused")).map(|(i, _)| i + 1).collect();
    assert_eq!(got, expected, "lines that the lint refuses, and lines that it should refuse, of\n{text}");
}

#[test]
fn barrier_after_divergent_return() {
    expect(
        "",
        "
    if gid.x >= params.count { return; }
    workgroupBarrier(); // refused
    out[gid.x] = 1u;",
    );
}

#[test]
fn fault_names_the_statement_that_parts_the_invocations() {
    let text = format!("{PRELUDE}{ENTRY} for (var i = 0u; i < 9u; i++) {{ if lane > i {{ continue; }} storageBarrier(); }} }}");
    let module = naga::front::wgsl::parse_str(&text).expect("the sample parses");
    let [fault] = &check(&module)[..] else { panic!("one fault expected") };
    assert!(text[fault.at..].starts_with("storageBarrier"));
    assert!(text[fault.since..].starts_with("if lane > i"));
    assert_eq!(fault.what, "a workgroup barrier");
}

#[test]
fn barrier_after_uniform_return() {
    expect(
        "",
        "
    if wid.x >= params.count || groups.y > 1u { return; }
    workgroupBarrier();
    storageBarrier();
    out[gid.x] = subgroupAdd(lane);",
    );
}

#[test]
fn guarded_stores_between_barriers() {
    expect(
        "",
        "
    var value = 0u;
    if gid.x < params.count { value = table[gid.x]; }
    tile[lid] = value;
    workgroupBarrier();
    if gid.x < params.count { out[gid.x] = tile[63u - lid]; }
    workgroupBarrier();
    let all = workgroupUniformLoad(&tile[3]);
    if all > 4u { workgroupBarrier(); }",
    );
}

#[test]
fn divergent_if_and_else() {
    expect(
        "",
        "
    if local.x == 0u {
        workgroupBarrier(); // refused
    } else {
        storageBarrier(); // refused
    }
    workgroupBarrier();
    if params.flag == 0u { workgroupBarrier(); } else if lid > 3u {
        let v = subgroupBroadcast(lid, 0u); // refused
        let w = subgroupBallot(v == 0u).x; // refused
        out[lid] = w + workgroupUniformLoad(&tile[0]); // refused
    }",
    );
}

#[test]
fn return_in_one_branch_leaves_the_other_alone() {
    expect(
        "",
        "
    if params.flag == 0u {
        if lid == 0u { return; }
    } else {
        workgroupBarrier();
    }
    workgroupBarrier(); // refused",
    );
}

#[test]
fn divergent_switch() {
    expect(
        "",
        "
    switch params.flag {
        case 0u, 1u: { workgroupBarrier(); }
        case 2u: { if lid == 0u { break; } workgroupBarrier(); // refused
        }
        default: {}
    }
    workgroupBarrier();
    switch lid {
        case 0u: { workgroupBarrier(); // refused
        }
        default: { return; }
    }
    workgroupBarrier(); // refused",
    );
}

#[test]
fn divergent_trip_count() {
    expect(
        "",
        "
    for (var i = 0u; i < lid; i++) {
        workgroupBarrier(); // refused
    }
    workgroupBarrier();
    for (var i = 0u; i < table[gid.x]; i++) {
        out[i] = subgroupAdd(i); // refused
    }",
    );
}

#[test]
fn uniform_trip_count() {
    expect(
        "",
        "
    var sum = 0u;
    for (var s = 0u; s < table[wid.x]; s++) {
        let base = table[1u + s];
        for (var k = 0u; k < base; k += 8u) {
            if k + lane < params.count { continue; }
            sum += lid;
        }
        sum += subgroupBroadcast(sum, 0u);
        workgroupBarrier();
    }
    out[lid] = sum;",
    );
}

#[test]
fn divergent_break_parts_the_next_iteration() {
    expect(
        "",
        "
    loop {
        workgroupBarrier(); // refused
        if out[0] > 3u { break; }
    }
    workgroupBarrier();",
    );
}

#[test]
fn divergent_break_if() {
    expect(
        "",
        "
    var i = 0u;
    loop {
        workgroupBarrier(); // refused
        continuing { i++; break if i > lid; }
    }
    workgroupBarrier();",
    );
}

#[test]
fn divergent_continue_rejoins_before_the_next_iteration() {
    expect(
        "",
        "
    for (var i = 0u; i < params.count; i++) {
        workgroupBarrier();
        if lane == 0u { continue; }
        workgroupBarrier(); // refused
    }
    workgroupBarrier();",
    );
}

#[test]
fn return_inside_a_loop() {
    expect(
        "",
        "
    for (var i = 0u; i < params.count; i++) {
        workgroupBarrier(); // refused
        if lid == i { return; }
    }
    workgroupBarrier(); // refused",
    );
}

#[test]
fn locals_carry_divergence() {
    expect(
        "",
        "
    var steps = params.count;
    var bound = 4u;
    for (var i = 0u; i < 2u; i++) {
        for (var k = 0u; k < bound; k++) { workgroupBarrier(); // refused
        }
        // Reaches the inner loop's bound in the second round, by way of another variable.
        bound = steps;
        steps = lid;
    }
    var chosen = 1u;
    if lid == 0u { chosen = 2u; }
    if chosen == 1u { workgroupBarrier(); // refused
    }",
    );
}

#[test]
fn locals_stay_uniform() {
    expect(
        "",
        "
    var bound = 4u;
    var at: vec3<u32>;
    at.y = params.count;
    if params.flag == 1u { bound = table[at.y]; }
    if at.y < bound { workgroupBarrier(); }",
    );
}

#[test]
fn element_stored_at_a_divergent_index() {
    expect(
        "",
        "
    var marks: array<u32, 64>;
    marks[lid] = 1u;
    if marks[3] == 1u { workgroupBarrier(); // refused
    }",
    );
}

#[test]
fn writable_memory_is_divergent() {
    expect(
        "var<private> mine: u32;",
        "
    if out[0] == 0u { workgroupBarrier(); // refused
    }
    if tile[0] == 0u { workgroupBarrier(); // refused
    }
    if mine == 0u { workgroupBarrier(); // refused
    }
    if atomicAdd(&counter, 1u) == 0u { workgroupBarrier(); // refused
    }",
    );
}

#[test]
fn broadcasts_are_uniform_within_a_subgroup_only() {
    expect(
        "",
        "
    let first = subgroupBroadcast(lid, 0u);
    if first == 0u {
        out[lid] = subgroupAdd(lid);
        subgroupBarrier();
        workgroupBarrier(); // refused
    }
    if subgroupBroadcast(params.flag, 3u) == 0u { workgroupBarrier(); }
    if subgroup == 0u {
        out[lid] = subgroupMax(lid);
        workgroupBarrier(); // refused
    }
    if subgroupAdd(1u) == 8u { workgroupBarrier(); // refused
    }
    if subgroupBallot(true).x == 255u { workgroupBarrier(); // refused
    }
    if subgroupShuffle(lid, 1u) == 0u { subgroupBarrier(); // refused
    }
    if subgroupExclusiveAdd(1u) == 0u { out[0] = subgroupBroadcastFirst(lid); // refused
    }
    if subgroupAny(lid == 3u) { subgroupBarrier(); }
    if subgroupBallot(lid == 3u).x == 1u { subgroupBarrier(); }
    workgroupBarrier();",
    );
}

#[test]
fn through_function_calls() {
    expect(
        "
fn sync() {
    workgroupBarrier(); // refused
}
fn reduce(v: u32) -> u32 {
    return subgroupAdd(v);
}
fn twice(v: u32) -> u32 {
    let r = reduce(v);
    return r + reduce(r);
}
fn clamped(v: u32) -> u32 {
    if v > 9u { return 9u; }
    return v;
}
fn constant_but_late(v: u32) -> u32 {
    if v > 9u { return 1u; }
    return 2u;
}",
        "
    out[lid] = twice(lid);
    sync();
    if clamped(params.count) == 3u { workgroupBarrier(); }
    if clamped(lid) == 3u { workgroupBarrier(); // refused
    }
    if constant_but_late(lid) == 1u { storageBarrier(); // refused
    }
    // A return in a function is over at its end.
    out[lid] = clamped(lid);
    workgroupBarrier();
    if lid == 7u { sync(); }",
    );
}

#[test]
fn variables_lent_to_functions() {
    expect(
        "
fn bump(p: ptr<function, u32>) {
    *p += 1u;
    if *p == 2u { workgroupBarrier(); // refused
    }
}",
        "
    var lent = 0u;
    var kept = 0u;
    bump(&lent);
    if lent == 1u { workgroupBarrier(); // refused
    }
    if kept == 0u { workgroupBarrier(); }",
    );
}

#[test]
fn struct_and_select_and_short_circuit() {
    expect(
        "
struct Class { rows: u32, columns: u32 }
fn class_at(index: u32) -> Class {
    return Class(table[2u * index], table[2u * index + 1u]);
}",
        "
    let rows = class_at(wid.z);
    if rows.rows > 3u && rows.columns > wid.x { workgroupBarrier(); }
    if class_at(lid).rows > 3u { workgroupBarrier(); // refused
    }
    if select(rows.rows, lid, params.flag == 1u) > 3u { workgroupBarrier(); // refused
    }
    if params.flag == 1u && lid > 3u { workgroupBarrier(); // refused
    }
    if select(1u, 2u, lid > 3u) == 1u { workgroupBarrier(); // refused
    }
    if max(3u, lid) > 3u { workgroupBarrier(); // refused
    }
    if arrayLength(&table) > 8u { workgroupBarrier(); }",
    );
}

/// Fragments belong to a subgroup: all of its lanes come, and all name the same place.
#[test]
fn cooperative_matrices_are_uniform_within_a_subgroup() {
    let numbers = "
var<workgroup> numbers: array<f32, 512>;
alias A8 = coop_mat8x8<f32, A>;
alias B8 = coop_mat8x8<f32, B>;
alias C8 = coop_mat8x8<f32, C>;
";
    expect(
        numbers,
        "
    var sum = C8();
    if subgroup > 2u {
        let a = coopLoad<A8>(&numbers[subgroup * 64u], 8u);
        let b = coopLoadT<B8>(&numbers[0], 8u);
        sum = coopMultiplyAdd(a, b, sum);
        coopStoreT(sum, &numbers[subgroup * 64u], 8u);
    }
    workgroupBarrier();
    out[lid] = u32(numbers[lid]);",
    );
    expect(
        numbers,
        "
    var sum = C8();
    let a = coopLoad<A8>(&numbers[lane], 8u); // refused
    let b = coopLoadT<B8>(&numbers[0], lane); // refused
    coopStoreT(sum, &numbers[lid], 8u); // refused
    if lane > 2u {
        let b = coopLoadT<B8>(&numbers[0], 8u); // refused
        sum = coopMultiplyAdd(a, b, sum); // refused
        coopStoreT(sum, &numbers[0], 8u); // refused
    }",
    );
}
