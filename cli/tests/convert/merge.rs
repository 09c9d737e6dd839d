//! Adapters, merged: the weights are the sums, rounded once.

use std::collections::BTreeMap;
use std::path::Path;

use ossicle_core::file::TensorType;
use ossicle_core::format::mxfp4;

use crate::files::{Scratch, convert, data, gguf, logits, logits_with, refused, safetensors};

/// The numbers of a tensor.
fn values((dtype, _, bytes): &(TensorType, Vec<u64>, Vec<u8>)) -> Vec<f64> {
    match dtype {
        TensorType::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect(),
        TensorType::Bf16 => bytes.as_chunks().0.iter().map(|bytes| half::bf16::from_le_bytes(*bytes).into()).collect(),
        TensorType::Mxfp4 => {
            let blocks = mxfp4::Blocks::interleaved(bytes, bytes.len() / 17).expect("whole blocks");
            let block = |at| {
                let (codes, scale) = blocks.get(at);
                codes.map(|code| f64::from(code) * 2_f64.powi(i32::from(scale) - 128))
            };
            (0..bytes.len() / 17).flat_map(block).collect()
        }
        other => panic!("{other}"),
    }
}

/// The sum of the squares of how far numbers are from others.
fn error(found: &[f64], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    found.iter().zip(exact).map(|(found, exact)| (found - exact).powi(2)).sum()
}

#[test]
fn merged_weights_are_the_exact_sums_rounded_once() {
    const HIDDEN: usize = 64;
    const RANK: usize = 4;
    const EXPERTS: usize = 8;
    let scratch = Scratch::new("sums");
    let (base, out) = (data("tiny-a/gguf/tiny-a.gguf"), scratch.path("out.gguf"));
    convert(&[&base, &out, "--adapter", &format!("{}:0.5", data("adapters/everything"))]);
    let changes: BTreeMap<_, _> = safetensors(Path::new(&data("adapters/everything/adapter_model.safetensors")))
        .iter()
        .map(|(name, tensor)| (name.clone(), (values(tensor), tensor.1.clone())))
        .collect();
    let change = |name: &str| {
        let find =
            |half| changes.iter().find(|(found, _)| found.ends_with(&format!("layers.1.{name}.lora_{half}.weight")));
        let ((_, (down, _)), (_, (up, shape))) = (find("A").expect("one half"), find("B").expect("the other"));
        (down, up, shape[0] as usize)
    };
    let (before, after) = (gguf(&base).0, gguf(&out).0);
    let tensors = |name: &str| [&before, &after].map(|tensors| values(&tensors[&format!("blk.1.{name}.weight")]));
    // lora_alpha 6 by the root of the rank, and half of that.
    let scale = 0.5 * 6.0 / (RANK as f64).sqrt();

    for (ours, theirs, most) in [("attn_q", "self_attn.q_proj", 1.0 / 256.0), ("ffn_gate_inp", "mlp.router", 1e-5)] {
        let ([before, after], (down, up, _)) = (tensors(ours), change(theirs));
        for (at, (before, after)) in before.iter().zip(&after).enumerate() {
            let (output, input) = (at / HIDDEN, at % HIDDEN);
            let sum: f64 = (0..RANK).map(|rank| up[output * RANK + rank] * down[rank * HIDDEN + input]).sum();
            let exact = before + scale * sum;
            assert!((after - exact).abs() <= most * exact.abs().max(1e-2), "{ours} {at}: {after}, exactly {exact}");
        }
    }
    for (ours, first, step) in [("ffn_gate_exps", 0, 2), ("ffn_up_exps", 1, 2), ("ffn_down_exps", 0, 1)] {
        let named = ["mlp.experts", "mlp.experts.base_layer"].map(change);
        let (down, up, outputs) =
            named.into_iter().find(|(_, _, outputs)| (*outputs > HIDDEN) == (step == 2)).expect("it");
        let inputs = down.len() / (EXPERTS * RANK);
        let [before, after] = tensors(ours);
        let exact: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(at, before)| {
                let (expert, output, input) =
                    (at / inputs / (outputs / step), at / inputs % (outputs / step), at % inputs);
                let up = &up[(first + step * output) * RANK * EXPERTS..];
                let sum: f64 = (0..RANK)
                    .map(|rank| up[rank * EXPERTS + expert] * down[(expert * RANK + rank) * inputs + input])
                    .sum();
                before + scale * sum
            })
            .collect();
        let best: Vec<f64> = exact
            .as_chunks()
            .0
            .iter()
            .flat_map(|block| {
                let (codes, scale) = mxfp4::quantize(&block.map(|value| value as f32)).expect("finite numbers");
                codes.map(|code| f64::from(mxfp4::DOUBLED[usize::from(code)]) * 2_f64.powi(i32::from(scale) - 128))
            })
            .collect();
        let (found, best, unchanged) = (error(&after, &exact), error(&best, &exact), error(&before, &exact));
        assert!(found <= 1.0001 * best, "{ours}: {found}, at best {best}");
        println!("{ours}: squared error {found:.3} of a change of {unchanged:.3}");
    }
}

fn numbers(npy: &[u8]) -> Vec<f32> {
    let data = &npy[10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]))..];
    data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The root of the mean square of how far logits are from others.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let wide = |logits: &[f32]| logits.iter().map(|logit| f64::from(*logit)).collect::<Vec<_>>();
    (error(&wide(found), &wide(expected)) / found.len() as f64).sqrt()
}

#[test]
fn a_merged_model_says_what_the_model_says_with_the_adapters() {
    let scratch = Scratch::new("merged");
    let paths = ["tiny-a/gguf/tiny-a.gguf", "tiny-a/hf", "adapters/attention", "adapters/everything"].map(data);
    let [gguf_file, folder, attention, everything] = paths.each_ref().map(String::as_str);
    let others = [format!("{everything}:0.5"), format!("{everything}.gguf")];
    let [half, packed] = others.each_ref().map(String::as_str);
    let precise = ["--precision", "precise"];
    let plain = numbers(&logits_with(&scratch, gguf_file, &precise));
    // How far logits may be from those with the adapters, as a part of what these change.
    for (number, (input, adapters, dense, most)) in [
        (gguf_file, &[attention][..], "bf16", 0.02),
        (folder, &[attention][..], "bf16", 0.02),
        (gguf_file, &[attention][..], "q8_0", 0.1),
        (gguf_file, &[everything][..], "bf16", 0.6),
        (folder, &[packed][..], "bf16", 0.6),
        (folder, &[attention, half][..], "q8_0", 0.6),
    ]
    .into_iter()
    .enumerate()
    {
        let options: Vec<_> = adapters.iter().flat_map(|adapter| ["--adapter", *adapter]).collect();
        let expected = numbers(&logits_with(&scratch, gguf_file, &[&options[..], &precise].concat()));
        let out = scratch.path(&format!("{number}.gguf"));
        convert(&[&[input, &*out, "--dense", dense], &options[..]].concat());
        let found = numbers(&logits_with(&scratch, &out, &precise));
        let part = distance(&found, &expected) / distance(&plain, &expected);
        println!("{adapters:?} {dense}: {part:.4} of what they change");
        assert!(part < most, "{adapters:?} {dense}: {part}");
    }
    // Between layouts nothing is rounded again.
    let out = scratch.path("folder");
    convert(&[folder, &out, "--adapter", attention]);
    assert!(logits(&scratch, &out) == logits(&scratch, &scratch.path("0.gguf")));
}

#[test]
fn nothing_is_merged_from_an_adapter_that_does_not_fit() {
    let scratch = Scratch::new("other");
    let (model, out, adapter) =
        (data("tiny-b/gguf/tiny-b.gguf"), scratch.path("out.gguf"), data("adapters/everything"));
    refused(&[&model, &out, "--adapter", &adapter], "adapter_model.safetensors");
    refused(&[&data("tiny-a/hf"), &out, "--adapter", &data("tiny-a/gguf/tiny-a.gguf")], "lora in adapter.type");
    assert!(!Path::new(&out).exists());
}
