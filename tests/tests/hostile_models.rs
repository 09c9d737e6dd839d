//! What is wrong with a checkpoint is refused with the tensor or the number, its place, and what was expected there; nothing
//! in a file makes the engine panic.

use ossicle_core::error::Error;
use ossicle_core::kernels::Kernels;
use ossicle_core::model::{Files, Model};
use ossicle_core::parallel::Alone;
use ossicle_core::transformer::{Logits, Precision, Session};
use ossicle_host::Memory;
use ossicle_tests::engine::{config, with_files, with_session};
use ossicle_tests::fixtures::Fixture;
use ossicle_tests::forgery::{Gguf, Safetensors, Tensor, place};
use ossicle_tests::numbers::Numbers;

fn tiny_a() -> Gguf {
    Gguf::read(&std::fs::read(Fixture::load("tiny-a").gguf).expect("the fixture"))
}

#[track_caller]
fn assert_refused(gguf: &Gguf, expected: &str) {
    assert_parts_refused(&[&gguf.bytes()], expected);
}

#[track_caller]
fn assert_parts_refused(parts: &[&[u8]], expected: &str) {
    assert_eq!(with_files(Files::gguf(parts), |_| ()).expect_err("refused").to_string(), expected);
}

/// Asserts what is said about a tensor, "file 0, byte ...: tensor ...: expected " before it.
#[track_caller]
fn assert_tensor_refused(gguf: &Gguf, name: &str, expected: &str) {
    let offset = gguf.data_offset(name);
    assert_refused(gguf, &format!("file 0, byte {offset}: tensor {name}: expected {expected}"));
}

#[test]
fn a_file_taken_apart_and_put_together_is_the_same() {
    let bytes = std::fs::read(Fixture::load("tiny-a").gguf).expect("the fixture");
    assert_eq!(Gguf::read(&bytes).bytes(), bytes);
    assert!(with_files(Files::gguf(&[&bytes]), |_| ()).is_ok());
}

// Tensors.

#[test]
fn each_missing_tensor_is_named() {
    let good = tiny_a();
    for (number, tensor) in good.tensors.iter().enumerate() {
        let mut gguf = good.clone();
        gguf.tensors.remove(number);
        assert_refused(&gguf, &format!("tensor {}: expected in one of the files, found in none", tensor.name));
    }
    let mut gguf = good.clone();
    gguf.tensors.truncate(30);
    assert_refused(&gguf, "tensor blk.1.ffn_gate_exps.weight: expected in one of the files, found in none");
    gguf.tensors.clear();
    assert_refused(&gguf, "tensor blk.0.attn_q.weight: expected in one of the files, found in none");
}

#[test]
fn a_tensor_that_comes_twice_is_named() {
    let mut gguf = tiny_a();
    let twice = gguf.tensors[7].clone();
    gguf.tensors.push(twice.clone());
    // Where the second is.
    let offset = gguf.bytes().len() - twice.data.len();
    assert_refused(&gguf, &format!("file 0, byte {offset}: tensor {}: expected once, found again", twice.name));
}

#[test]
fn tensors_that_share_bytes_are_named() {
    let fixture = Fixture::load("tiny-a");
    let config = std::fs::read(fixture.hf.join("config.json")).expect("the fixture");
    let mut file = Safetensors::read(&std::fs::read(fixture.hf.join("model.safetensors")).expect("the fixture"));
    let [first, second] = ["model.layers.0.input_layernorm.weight", "model.norm.weight"];
    // Not neighbours in the header: neighbours are refused by the container already.
    let last = file.tensors.iter().position(|tensor| tensor.name == second).expect("a norm");
    let last = file.tensors.remove(last);
    file.tensors.push(last);
    let bytes = file.bytes();
    let extent = |name: &str| {
        let start = place(&bytes, &format!("\"{name}\""));
        let begin = start + place(&bytes[start..], "\"data_offsets\":[") + 16;
        let end = begin + place(&bytes[begin..], "]");
        begin..end
    };
    let mut shared = bytes.clone();
    let (from, to) = (extent(first), extent(second));
    shared[to.clone()].fill(b' ');
    shared[to.start..][..from.len()].copy_from_slice(&bytes[from]);
    let offset = bytes.len()
        - file.tensors.iter().rev().take_while(|tensor| tensor.name != first).map(|t| t.data.len()).sum::<usize>()
        - file.tensor(first).data.len();
    let error = with_files(Files::safetensors(&[&shared], &config), |_| ()).expect_err("refused");
    let expected = format!("file 0, byte {offset}: tensor {second}: expected bytes of its own, found those of {first}");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn types_that_do_not_belong_there_are_named() {
    let with = |name: &str, kind: u32, data_len: usize| {
        let mut gguf = tiny_a();
        let tensor = gguf.tensor(name);
        tensor.kind = kind;
        tensor.data.resize(data_len, 0);
        gguf
    };
    let vector = "F32, F16 or BF16, found";
    assert_tensor_refused(&with("output_norm.weight", 8, 68), "output_norm.weight", &format!("{vector} Q8_0"));
    assert_tensor_refused(&with("blk.2.attn_q.bias", 39, 136), "blk.2.attn_q.bias", &format!("{vector} MXFP4"));
    assert_tensor_refused(
        &with("blk.1.attn_norm.weight", 26, 256),
        "blk.1.attn_norm.weight",
        &format!("{vector} I32 (26)"),
    );
    let matrix = "F32, F16, BF16 or Q8_0, found";
    assert_tensor_refused(&with("token_embd.weight", 39, 17408), "token_embd.weight", &format!("{matrix} MXFP4"));
    assert_tensor_refused(
        &with("blk.0.attn_k.weight", 14, 6720),
        "blk.0.attn_k.weight",
        &format!("{matrix} Q6_K (14)"),
    );
    let experts = "MXFP4, F32, F16, BF16 or Q8_0, found";
    for name in ["blk.3.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"] {
        assert_tensor_refused(&with(name, 12, 27648), name, &format!("{experts} Q4_K (12)"));
        assert_tensor_refused(&with(name, 99, 0), name, &format!("{experts} unknown (99)"));
    }
}

#[test]
fn shapes_that_do_not_belong_there_are_named() {
    let with = |name: &str, dims: &[u64]| {
        let mut gguf = tiny_a();
        let tensor = gguf.tensor(name);
        let before: u64 = tensor.dims.iter().product();
        let len = tensor.data.len() as u64 * dims.iter().product::<u64>() / before;
        tensor.data.resize(len as usize, 0);
        tensor.dims = dims.to_vec();
        gguf
    };
    let refuse = |name: &str, dims: &[u64], expected: &str| {
        let gguf = with(name, dims);
        assert_tensor_refused(&gguf, name, &format!("shape {expected}, found {dims:?}"));
    };
    refuse("blk.0.attn_q.weight", &[64, 256], "[256, 64]");
    refuse("blk.0.attn_q.weight", &[255, 64], "[256, 64]");
    refuse("blk.0.attn_q.weight", &[256, 2, 32], "[256, 64]");
    refuse("blk.0.attn_output.weight", &[64, 224], "[64, 256]");
    refuse("blk.3.ffn_down_exps.weight", &[8, 96, 64], "[8, 64, 96]");
    refuse("blk.3.ffn_down_exps.weight", &[7, 64, 96], "[8, 64, 96]");
    refuse("blk.2.ffn_gate_inp.weight", &[9, 64], "[8, 64]");
    refuse("blk.2.attn_sinks.weight", &[5], "[4]");
    refuse("output_norm.weight", &[2, 64], "[64]");
    refuse("output.weight", &[511, 64], "[512, 64]");
    refuse("token_embd.weight", &[513, 64], "[512, 64]");
    refuse("token_embd.weight", &[0, 64], "[512, 64]");
    let mut huge = with("output_norm.weight", &[64]);
    huge.tensor("output_norm.weight").dims = vec![1 << 62, 64];
    let (expected, offset) =
        ("dimensions of a tensor below 2^64 bytes", place(&huge.bytes(), "output_norm.weight") + 22);
    assert_refused(&huge, &format!("file 0, byte {offset}: expected {expected}, found 64"));
}

#[test]
fn tensors_that_the_model_does_not_have_are_refused_where_their_names_are() {
    let last = "output_norm.weight";
    for (name, expected) in [
        ("output.bias", "the name of a gpt-oss tensor"),
        ("", "the name of a gpt-oss tensor"),
        ("blk.0.attn_q_norm.weight", "the name of a gpt-oss tensor"),
        ("blk.0.", "the name of a gpt-oss tensor"),
        ("blk.00.attn_norm.weight", "the name of a gpt-oss tensor"),
        ("blk.-1.attn_norm.weight", "the name of a gpt-oss tensor"),
        ("blk.65536.attn_norm.weight", "the name of a gpt-oss tensor"),
        ("blk.4.attn_norm.weight", "the tensor of a layer that the model has"),
        ("blk.65535.ffn_down_exps.bias", "the tensor of a layer that the model has"),
    ] {
        let mut gguf = tiny_a();
        let offset = place(&gguf.bytes(), last);
        gguf.tensor(last).name = name.into();
        assert_refused(&gguf, &format!("file 0, byte {offset}: expected {expected}, found 0"));
    }
}

// Parts.

/// The tensors in as many files, the metadata in the first.
fn split(gguf: &Gguf, count: u16) -> Vec<Vec<u8>> {
    let each = gguf.tensors.len().div_ceil(count.into());
    let part = |(number, tensors): (usize, &[Tensor])| {
        let metadata = if number == 0 { gguf.metadata.clone() } else { Vec::new() };
        let mut part = Gguf { metadata, tensors: tensors.to_vec() };
        part.set("split.no", 2, &(number as u16).to_le_bytes());
        part.set("split.count", 2, &count.to_le_bytes());
        part.bytes()
    };
    gguf.tensors.chunks(each).enumerate().map(part).collect()
}

#[test]
fn a_split_file_is_the_same_model_and_its_parts_must_be_there_in_order() {
    let gguf = tiny_a();
    let logits = |parts: &[&[u8]]| {
        with_files(Files::gguf(parts), |model| {
            with_session(model, Kernels::portable(), &config(20, 7, Precision::Standard), |session| {
                session.run_all(&[1, 2, 3, 4, 5, 6, 7], &Alone).expect("finite numbers");
                session.logits().to_vec()
            })
        })
    };
    let parts = split(&gguf, 3);
    let [one, two, three] = &parts[..] else { panic!("three parts") };
    assert_eq!(logits(&[one, two, three]), logits(&[&gguf.bytes()]));

    let next = "expected the next part of a split file, its number in split.no, found";
    assert_parts_refused(&[one, three, two], &format!("file 1, byte 0: {next} 2"));
    assert_parts_refused(&[one, two, two], &format!("file 2, byte 0: {next} 1"));
    assert_parts_refused(&[one, one, one], &format!("file 1, byte 0: {next} 0"));
    assert_parts_refused(&[one, two], &format!("file 1, byte 0: {next} 1"));
    assert_parts_refused(&[one, two, three, three], &format!("file 1, byte 0: {next} 1"));
    assert_parts_refused(&[one], "file 0, byte 0: expected as many files as split.count says, found 3");
    assert_parts_refused(&[two], "file 0, byte 0: expected the first part of a split file, 0 in split.no, found 1");
    assert_parts_refused(&[], "file 0, byte 0: expected from 1 to 65535 files, found 0");
    let cut = "file 1, byte 8: expected a number of tensors that the file has room for, found 27";
    assert_parts_refused(&[one, &two[..100], three], cut);
    let whole = gguf.bytes();
    assert_parts_refused(&[&whole, &whole], &format!("file 1, byte 0: {next} 0"));
}

// Weights.

/// Runs tokens one by one until a session refuses to go on; the layer, and how many tokens were taken in.
fn first_refusal(model: &Model<'_, '_>, precision: Precision) -> Option<(usize, usize)> {
    with_session(model, Kernels::portable(), &config(20, 4, precision), |session| {
        for token in 0..8 {
            session.start(&[token], Logits::Last).expect("room for the token");
            match session.run(&Alone) {
                Ok(()) => {}
                Err(Error::NotFinite { layer }) => {
                    assert_eq!((session.position(), session.logits()), (token as usize, &[][..]));
                    session.rewind(session.position()).expect("where it is");
                    session.rewind(0).expect("the start is always there");
                    return Some((layer, token as usize));
                }
                Err(error) => panic!("{error}"),
            }
        }
        None
    })
}

/// Damages every value of a tensor (a block's scale, where there are blocks) in one of these ways: the check names the first,
/// and a session gives up in the layer.
fn assert_noticed(name: &str, at: usize, damage: &[u8], layer: usize) {
    let mut gguf = tiny_a();
    let (damage_size, tensor) = (damage.len(), gguf.tensor(name));
    let step = if tensor.kind == 39 { 17 } else { damage_size };
    tensor.data[at * step..].chunks_mut(step).for_each(|value| value[..damage_size].copy_from_slice(damage));
    let offset = gguf.data_offset(name) + at * step;
    let expected = format!("file 0, byte {offset}: tensor {name}: expected finite values, found one that is not");
    with_files(Files::gguf(&[&gguf.bytes()]), |model| {
        assert_eq!(model.check_values().expect_err("damage").to_string(), expected);
        for precision in [Precision::Standard, Precision::Precise] {
            assert_eq!(first_refusal(model, precision), Some((layer, 0)), "{name}: {damage:?}, {precision:?}");
        }
    })
    .expect("only values are damaged");
}

#[test]
fn weights_that_are_not_finite_are_named_by_the_check_and_noticed_by_a_session() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let f32s = value.to_le_bytes();
        for tensor in [
            "attn_norm.weight",
            "attn_q.bias",
            "attn_k.bias",
            "attn_v.bias",
            "attn_sinks.weight",
            "attn_output.bias",
            "post_attention_norm.weight",
            "ffn_gate_inp.weight",
            "ffn_gate_inp.bias",
            "ffn_gate_exps.bias",
            "ffn_up_exps.bias",
            "ffn_down_exps.bias",
        ] {
            assert_noticed(&format!("blk.2.{tensor}"), 1, &f32s, 2);
        }
        for tensor in ["attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"] {
            assert_noticed(&format!("blk.1.{tensor}"), 3, &f32s[2..], 1);
        }
        assert_noticed("token_embd.weight", 0, &f32s[2..], 0);
        assert_noticed("output.weight", 64 * 511 + 63, &f32s[2..], 4);
        assert_noticed("output_norm.weight", 63, &f32s, 4);
    }
    for tensor in ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"] {
        assert_noticed(&format!("blk.3.{tensor}"), 0, &[255], 3);
    }
}

/// One value alone, wherever it stands: an infinity would otherwise end at a clamp, or in a comparison that it loses.
#[test]
fn a_single_infinite_weight_is_noticed() {
    for (name, value) in [
        ("blk.1.ffn_gate_inp.bias", f32::NEG_INFINITY),
        ("blk.1.ffn_gate_inp.bias", f32::NAN),
        ("blk.1.attn_sinks.weight", f32::INFINITY),
        ("blk.1.attn_sinks.weight", f32::NEG_INFINITY),
        ("blk.1.attn_k.bias", f32::NEG_INFINITY),
        ("blk.1.attn_q.bias", f32::INFINITY),
    ] {
        let mut gguf = tiny_a();
        gguf.tensor(name).data[4..8].copy_from_slice(&value.to_le_bytes());
        with_files(Files::gguf(&[&gguf.bytes()]), |model| {
            for precision in [Precision::Standard, Precision::Precise] {
                assert_eq!(first_refusal(model, precision), Some((1, 0)), "{name} {value} {precision:?}");
            }
        })
        .expect("only a value is damaged");
    }
}

/// Weights may be finite and their squares not: normalized by such a sum, all would be zero.
#[test]
fn weights_that_are_too_large_to_compute_with_are_noticed() {
    let mut gguf = tiny_a();
    let large = 1e30f32.to_le_bytes();
    gguf.tensor("token_embd.weight").data[..2].copy_from_slice(&large[2..]);
    gguf.tensor("blk.2.ffn_down_exps.bias").data.chunks_mut(4).for_each(|bias| bias.copy_from_slice(&large));
    with_files(Files::gguf(&[&gguf.bytes()]), |model| {
        assert_eq!(model.check_values(), Ok(()));
        for precision in [Precision::Standard, Precision::Precise] {
            assert_eq!(first_refusal(model, precision), Some((0, 0)), "the embedding of token 0");
            with_session(model, Kernels::portable(), &config(20, 4, precision), |session| {
                session.start(&[1], Logits::Last).expect("room for the token");
                assert_eq!(session.run(&Alone), Err(Error::NotFinite { layer: 3 }), "normalized in the layer after");
            });
        }
    })
    .expect("only values are changed");
}

#[test]
fn a_session_goes_on_after_a_token_that_is_not_finite() {
    let mut gguf = tiny_a();
    let good = gguf.bytes();
    // The embedding of token 5.
    gguf.tensor("token_embd.weight").data[2 * 64 * 5 + 7..][..2].fill(0xff);
    let run = |bytes: &[u8], hit: bool| {
        with_files(Files::gguf(&[bytes]), |model| {
            with_session(model, Kernels::portable(), &config(100, 8, Precision::Standard), |session| {
                session.run_all(&[1, 2, 3], &Alone).expect("finite numbers");
                if hit {
                    session.start(&[4, 5, 6], Logits::All).expect("room for the tokens");
                    assert_eq!(session.run(&Alone), Err(Error::NotFinite { layer: 0 }));
                    assert_eq!((session.position(), session.logits()), (3, &[][..]));
                }
                session.run_all(&[7, 8, 9, 10], &Alone).expect("finite numbers");
                if hit {
                    session.start(&[5], Logits::None).expect("room for the token");
                    assert_eq!(session.run(&Alone), Err(Error::NotFinite { layer: 0 }));
                    session.rewind(4).expect("no farther than the configuration says");
                    session.run_all(&[8, 9, 10], &Alone).expect("finite numbers");
                }
                session.logits().to_vec()
            })
        })
    };
    assert_eq!(run(&gguf.bytes(), true), run(&good, false));
}

#[test]
fn q8_0_and_safetensors_values_are_checked_where_they_are() {
    let path = Fixture::load("tiny-a").gguf_q8_0.expect("tiny-a comes as Q8_0 too");
    let mut gguf = Gguf::read(&std::fs::read(path).expect("the fixture"));
    gguf.tensor("output.weight").data[34 * 9..][..2].copy_from_slice(&[0, 0x7c]);
    let offset = gguf.data_offset("output.weight") + 34 * 9;
    let message = |offset: usize, name: &str| {
        format!("file 0, byte {offset}: tensor {name}: expected finite values, found one that is not")
    };
    with_files(Files::gguf(&[&gguf.bytes()]), |model| {
        assert_eq!(model.check_values().expect_err("damage").to_string(), message(offset, "output.weight"));
        assert_eq!(first_refusal(model, Precision::Standard), Some((4, 0)));
    })
    .expect("only a value is damaged");

    let fixture = Fixture::load("tiny-a");
    let config = std::fs::read(fixture.hf.join("config.json")).expect("the fixture");
    let mut file = Safetensors::read(&std::fs::read(fixture.hf.join("model.safetensors")).expect("the fixture"));
    let name = "model.layers.0.mlp.experts.down_proj_scales";
    file.tensor(name).data[77] = 255;
    let after = file.tensors.iter().rev().take_while(|tensor| tensor.name != name).map(|tensor| tensor.data.len());
    let offset = file.bytes().len() - after.sum::<usize>() - file.tensor(name).data.len() + 77;
    with_files(Files::safetensors(&[&file.bytes()], &config), |model| {
        assert_eq!(model.check_values().expect_err("damage").to_string(), message(offset, name));
    })
    .expect("only a value is damaged");
}

// Safetensors.

#[test]
fn bad_tensors_of_safetensors_are_named() {
    let fixture = Fixture::load("tiny-a");
    let config = std::fs::read(fixture.original.join("config.json")).expect("the fixture");
    let good = Safetensors::read(&std::fs::read(fixture.original.join("model.safetensors")).expect("the fixture"));
    let error = |file: &Safetensors| {
        let bytes = file.bytes();
        with_files(Files::safetensors(&[&bytes], &config), |_| ()).expect_err("refused").to_string()
    };
    for number in 0..good.tensors.len() {
        let mut file = good.clone();
        let name = file.tensors.remove(number).name;
        assert_eq!(error(&file), format!("tensor {name}: expected in one of the files, found in none"));
    }
    let refuse = |name: &str, dtype: &str, shape: &[u64], expected: &str| {
        let mut file = good.clone();
        let tensor = file.tensor(name);
        (tensor.dtype, tensor.shape) = (dtype.into(), shape.into());
        let error = error(&file);
        assert!(error.ends_with(&format!(": tensor {name}: expected {expected}")), "{error}");
    };
    refuse("norm.scale", "U8", &[128], "shape [64], found [128]");
    refuse("norm.scale", "I16", &[64], "F32, F16 or BF16, found I16");
    refuse("block.0.mlp.mlp1_weight.blocks", "I8", &[8, 192, 2, 16], "U8, found I8");
    refuse("block.0.mlp.mlp1_weight.scales", "F8_E8M0", &[8, 192, 2], "U8, found F8_E8M0");
    refuse("block.0.mlp.mlp1_weight.scales", "U8", &[8, 2, 192], "shape [8, 192, 2], found [8, 2, 192]");
    refuse("block.3.attn.qkv.weight", "BF16", &[64, 512], "shape [512, 64], found [64, 512]");
    refuse("unembedding.weight", "U8", &[512, 128], "shape [512, 64], found [512, 128]");
}

// Anything at all.

/// Opens a file and, if that works, runs a few tokens. Whatever comes of it, nothing may panic.
fn survive(bytes: &[u8]) -> bool {
    let result = with_files(Files::gguf(&[bytes]), |model| {
        let _ = model.check_values();
        let config = config(model.config().context_tokens.min(8), 4, Precision::Standard);
        let Ok(layout) = Session::layout(model, &config) else { return };
        if layout.size > 64 << 20 {
            return;
        }
        let mut memory = Memory::new(layout).expect("memory");
        let mut session = Session::new(memory.region(), model, Kernels::portable(), &config).expect("a session");
        let tokens = [0, 1, 2, 3].map(|token: u32| token % model.config().vocabulary.max(1) as u32);
        let _ = session.run_all(&tokens, &Alone);
    });
    result.is_ok()
}

#[test]
fn a_model_with_any_byte_of_its_header_changed_is_refused_or_runs() {
    let good = Gguf::smallest();
    let (mut bytes, header) = (good.bytes(), good.data_offset("token_embd.weight"));
    assert!(survive(&bytes), "the smallest model runs");
    let mut survived = 0;
    for at in 0..header {
        let byte = bytes[at];
        for bad in [0, 1, 0x7f, 0xff, byte ^ 1, byte ^ 0x80, byte.wrapping_add(1)] {
            bytes[at] = bad;
            survived += usize::from(survive(&bytes));
        }
        bytes[at] = byte;
    }
    println!("{survived} of {} models with one byte changed were not refused", 7 * header);
}

#[test]
fn a_model_with_many_bytes_of_its_weights_changed_runs_or_is_not_finite() {
    let good = Gguf::smallest();
    let (good_bytes, header) = (good.bytes(), good.data_offset("token_embd.weight"));
    let mut numbers = Numbers::seeded(9);
    for _ in 0..300 {
        let mut bytes = good_bytes.clone();
        for _ in 0..1 + numbers.below(200) {
            let at = header + numbers.below(bytes.len() - header);
            bytes[at] = numbers.bits() as u8;
        }
        assert!(survive(&bytes), "only weights are changed");
    }
}

#[test]
fn the_seed_of_the_fuzz_target_is_the_smallest_model() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/model/smallest.gguf");
    let expected = Gguf::smallest().bytes();
    if std::env::var_os("OSSICLE_WRITE_SEEDS").is_some() {
        std::fs::write(path, &expected).expect("the seed can be written");
    }
    assert!(std::fs::read(path).is_ok_and(|bytes| bytes == expected), "run with OSSICLE_WRITE_SEEDS=1 to write {path}");
}
