//! Temporary: `ossicle synth` until main has its command line.
#[path = "../src/gguf_writer.rs"]
mod gguf_writer;
#[path = "../src/synth/mod.rs"]
mod synth;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut geometry: synth::Geometry = arguments[0].parse().unwrap();
    if let Some(layers) = arguments.get(4) {
        geometry.layers = layers.parse().unwrap();
    }
    let options = synth::Options {
        geometry,
        dense: arguments[2].parse().unwrap(),
        seed: arguments[3].parse().unwrap(),
        out: (&arguments[1]).into(),
    };
    let start = std::time::Instant::now();
    let mut shown = 0;
    let progress = |written: u64, total: u64| {
        if written * 20 / total > shown {
            shown = written * 20 / total;
            eprintln!("{:5.1} s  {written} of {total}", start.elapsed().as_secs_f64());
        }
    };
    synth::run(&options, progress).unwrap();
}
