//! What is in a file or folder is what was in the other.

use std::fs;
use std::path::Path;

use ossicle_core::file::TensorType;
use serde_json::{Value, json};

use crate::files::{Scratch, Tensors, convert, data, gguf, json_of, logits, refused, safetensors, write_safetensors};

/// The checkpoint of tiny-a with its experts as a fine-tune in BF16 has them: not in blocks, and transposed.
fn write_dense(folder: &Path, change: impl Fn(&mut Tensors)) {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let source = data("tiny-a/hf");
    let mut tensors = safetensors(&Path::new(&source).join("model.safetensors"));
    let names: Vec<_> = tensors.keys().filter_map(|name| Some(name.strip_suffix("_blocks")?.to_owned())).collect();
    for name in names {
        let (_, shape, codes) = tensors.remove(&format!("{name}_blocks")).expect("codes");
        let (_, _, scales) = tensors.remove(&format!("{name}_scales")).expect("scales");
        let [experts, outputs, inputs] = [shape[0], shape[1], 32 * shape[2]];
        let mut bytes = Vec::new();
        for expert in 0..experts {
            for (input, output) in (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output))) {
                let place = ((expert * outputs + output) * inputs + input) as usize;
                let code = codes[place / 2] >> (4 * (place % 2)) & 15;
                let magnitude = VALUES[usize::from(code & 7)] * 2_f32.powi(i32::from(scales[place / 32]) - 127);
                let value = if code & 8 == 0 { magnitude } else { -magnitude };
                bytes.extend(half::bf16::from_f32(value).to_le_bytes());
            }
        }
        tensors.insert(name, (TensorType::Bf16, vec![experts, inputs, outputs], bytes));
    }
    change(&mut tensors);
    write_safetensors(&folder.join("model.safetensors"), &tensors);
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(Path::new(&source).join(name), folder.join(name)).expect("room");
    }
}

#[test]
fn published_layouts_become_what_llama_cpps_converter_writes() {
    let scratch = Scratch::new("published");
    let (hugging_face, original) = (data("tiny-a/hf"), data("tiny-a/original"));
    let (sharded, tokenizer) = (data("tiny-b/hf-sharded"), data("tiny-a/hf/tokenizer.json"));
    let (out, expected) = (scratch.path("a.gguf"), data("tiny-a/gguf/tiny-a.gguf"));
    let expected_logits = logits(&scratch, &expected);
    for input in [&[&*hugging_face][..], &[&original, "--tokenizer", &tokenizer]] {
        convert(&[input, &[&out, "--force"]].concat());
        assert!(gguf(&out).0 == gguf(&expected).0, "{input:?}");
        assert_eq!(gguf(&out).1, gguf(&expected).1);
        assert!(logits(&scratch, &out) == expected_logits);
    }
    let out = scratch.path("b.gguf");
    convert(&[&sharded, &out]);
    assert!(gguf(&out) == gguf(&data("tiny-b/gguf/tiny-b.gguf")));
}

#[test]
fn dense_weights_become_the_bytes_of_ggmls_q8_0() {
    let scratch = Scratch::new("q8_0");
    let (out, again) = (scratch.path("a.gguf"), scratch.path("b.gguf"));
    convert(&[&data("tiny-a/hf"), &out, "--dense", "q8_0"]);
    assert!(gguf(&out).0 == gguf(&data("tiny-a/gguf/tiny-a-q8_0.gguf")).0);
    convert(&[&out, &again]);
    assert!(gguf(&out) == gguf(&again), "Q8_0 stays as it is");
}

#[test]
fn experts_in_bf16_that_mxfp4_holds_exactly_become_the_blocks_that_they_came_from() {
    let scratch = Scratch::new("dense");
    write_dense(&scratch.0, |_| ());
    let out = scratch.path("out.gguf");
    convert(&[scratch.0.to_str().expect("UTF-8"), &out]);
    assert!(gguf(&out) == gguf(&data("tiny-a/gguf/tiny-a.gguf")));
    // And the same from there to Hugging Face's layout.
    let folder = scratch.path("packed");
    convert(&[scratch.0.to_str().expect("UTF-8"), &folder]);
    let packed = safetensors(&Path::new(&folder).join("model.safetensors"));
    assert!(packed == safetensors(Path::new(&data("tiny-a/hf/model.safetensors"))));
}

#[test]
fn gguf_becomes_a_folder_with_the_same_tensors_numbers_and_vocabulary_as_the_published_one() {
    let scratch = Scratch::new("back");
    let (file, folder, again) = (data("tiny-a/gguf/tiny-a.gguf"), scratch.path("hf"), scratch.path("again.gguf"));
    let published = data("tiny-a/hf");
    convert(&[&file, &folder]);
    let [folder_path, published] = [&*folder, &*published].map(Path::new);
    let tensors = |folder: &Path| safetensors(&folder.join("model.safetensors"));
    assert!(tensors(folder_path) == tensors(published));
    let (mut config, expected) = (json_of(&folder_path.join("config.json")), json_of(&published.join("config.json")));
    let added = ["bos_token_id", "torch_dtype"].map(|key| config.as_object_mut().expect("an object").remove(key));
    assert_eq!(added, [Some(json!(480)), Some(json!("bfloat16"))]);
    // The same number, with a point.
    assert_eq!(config["rope_theta"].as_f64(), expected["rope_theta"].as_f64());
    config["rope_theta"] = expected["rope_theta"].clone();
    assert_eq!(config, expected);
    let (tokenizer, expected) =
        (json_of(&folder_path.join("tokenizer.json")), json_of(&published.join("tokenizer.json")));
    for key in ["added_tokens", "model", "pre_tokenizer", "normalizer"] {
        assert_eq!(tokenizer[key], expected[key], "{key}");
    }
    assert!(logits(&scratch, &folder) == logits(&scratch, &file));
    convert(&[&folder, &again]);
    assert!(gguf(&again) == gguf(&file));
}

#[test]
fn layers_ends_merges_and_templates_are_kept_as_the_checkpoint_has_them() {
    let scratch = Scratch::new("kept");
    let input = Scratch::new("kept-input");
    write_dense(&input.0, |_| ());
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = input.0.join(name);
        let mut value = json_of(&path);
        change(&mut value);
        fs::write(path, value.to_string()).expect("room");
    };
    let layers = json!(["full_attention", "sliding_attention", "sliding_attention", "full_attention"]);
    edit("config.json", &|config| {
        config["layer_types"] = layers.clone();
        config["eos_token_id"] = json!([492, 484]);
    });
    // As older files have them.
    edit("tokenizer.json", &|tokenizer| {
        for merge in tokenizer["model"]["merges"].as_array_mut().expect("merges") {
            *merge = json!(format!("{} {}", merge[0].as_str().expect("text"), merge[1].as_str().expect("text")));
        }
    });
    fs::write(input.0.join("chat_template.jinja"), "{{ messages }}").expect("room");
    let [input_path, file, folder] =
        [input.path(""), scratch.path("a.gguf"), scratch.path("hf")].map(|path| path.trim_end_matches('/').to_owned());
    convert(&[&input_path, &file]);
    convert(&[&file, &folder]);
    let folder = Path::new(&folder);
    let config = json_of(&folder.join("config.json"));
    assert_eq!(config["layer_types"], layers);
    assert_eq!(config["eos_token_id"], 492);
    assert_eq!(fs::read_to_string(folder.join("chat_template.jinja")).expect("the template"), "{{ messages }}");
    let merges = |path: &Path| json_of(&path.join("tokenizer.json"))["model"]["merges"].clone();
    assert_eq!(merges(folder), merges(Path::new(&data("tiny-a/hf"))));
    // What GGUF has no key for.
    edit("config.json", &|config| config["swiglu_limit"] = json!(6.0));
    refused(&[&input_path, &scratch.path("b.gguf")], "swiglu_limit: expected 7, found 6");
    convert(&[&input_path, &scratch.path("limit")]);
    assert_eq!(json_of(&scratch.0.join("limit/config.json"))["swiglu_limit"], 6.0);
}

#[test]
fn large_models_are_spread_over_several_files_with_an_index() {
    let scratch = Scratch::new("shards");
    let (file, folder, again) = (data("tiny-a/gguf/tiny-a.gguf"), scratch.path("hf"), scratch.path("again.gguf"));
    convert(&[&file, &folder, "--shard-size", "200000"]);
    let index = json_of(&Path::new(&folder).join("model.safetensors.index.json"));
    let map = index["weight_map"].as_object().expect("a map");
    let files: std::collections::BTreeSet<_> = map.values().filter_map(Value::as_str).collect();
    assert!(files.len() > 3, "{files:?}");
    let mut tensors = Tensors::new();
    for name in files {
        let part = safetensors(&Path::new(&folder).join(name));
        assert!(part.keys().all(|tensor| map[tensor] == name));
        assert!(part.values().map(|(_, _, bytes)| bytes.len()).sum::<usize>() <= 200_000);
        tensors.extend(part);
    }
    let total: usize = tensors.values().map(|(_, _, bytes)| bytes.len()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    convert(&[&folder, &again]);
    assert!(gguf(&again) == gguf(&file));
}

#[test]
fn what_is_there_stays_and_what_fails_leaves_nothing() {
    let scratch = Scratch::new("refused");
    let (tiny, out, folder) = (data("tiny-a/hf"), scratch.path("out.gguf"), scratch.path("folder"));
    fs::write(&out, "mine").expect("room");
    fs::create_dir(&folder).expect("room");
    refused(&[&tiny, &out], "--force");
    refused(&[&tiny, &folder, "--force"], "a new name");
    assert_eq!(fs::read(&out).expect("the file"), b"mine");
    // What no conversion wrote: there is no journal beside it.
    let part = scratch.path("out.gguf.part");
    fs::write(&part, "mine").expect("room");
    refused(&[&tiny, &out, "--force"], "out.gguf.part: expected no such file");
    assert_eq!(fs::read(&part).expect("the file"), b"mine");
    fs::remove_file(&part).expect("the file");
    convert(&[&tiny, &out, "--force"]);
    assert!(gguf(&out).0 == gguf(&data("tiny-a/gguf/tiny-a.gguf")).0);

    refused(&[&data("tiny-a/original"), &scratch.path("a.gguf")], "--tokenizer");
    let broken = Scratch::new("broken");
    let input = broken.0.to_str().expect("UTF-8");
    let experts = "model.layers.1.mlp.experts.down_proj";
    write_dense(&broken.0, |tensors| {
        tensors.get_mut(experts).expect("experts").2[..2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    });
    refused(&[input, &scratch.path("a.gguf")], "blk.1.ffn_down_exps.weight: expected finite numbers");
    write_dense(&broken.0, |tensors| {
        let tensor = tensors[experts].clone();
        tensors.insert("model.layers.1.mlp.gate.weight".into(), tensor);
    });
    refused(&[input, &scratch.path("a.gguf")], "model.layers.1.mlp.gate.weight: expected only");
    write_dense(&broken.0, |tensors| {
        tensors.get_mut(experts).expect("experts").1.swap(1, 2);
    });
    refused(&[input, &scratch.path("a.gguf")], "expected the shape [8, 96, 64]");
    write_dense(&broken.0, |tensors| drop(tensors.remove(experts)));
    refused(&[input, &scratch.path("b")], "expected this tensor");
    let mut left: Vec<_> =
        fs::read_dir(&scratch.0).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    left.sort();
    assert_eq!(left, ["folder", "out.gguf"]);
}
