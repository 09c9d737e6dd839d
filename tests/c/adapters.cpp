// Adapters through ossicle.hpp: adapters MODEL ADAPTER.gguf.
#include <ossicle.hpp>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

static std::string read(const char *path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
}

static ossicle_bytes bytes_of(const std::string &text) { return {text.data(), text.size()}; }

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    const std::string file = read(argv[1]), change = read(argv[2]);
    const ossicle_bytes files[] = {bytes_of(file)};
    const ossicle::model model = ossicle::model::from_bytes({files, 1}).value();
    const ossicle::tokenizer tokenizer = ossicle::tokenizer::of(model).value();
    auto adapter = ossicle::adapter::from_bytes(model, bytes_of(change));
    if (!adapter) {
        std::cerr << adapter.failure().what() << "\n";
        return 1;
    }
    auto config = ossicle::defaults<ossicle_session_config>();
    config.context_tokens = 200;
    config.adapter_rank = 4;
    ossicle::session session = ossicle::session::on(model, &config).value();
    const ossicle_adapted adapters[] = {adapter.value().scaled(), adapter.value().scaled(-1)};
    if (session.adapt({adapters, 2}).status != OSSICLE_OK)
        return 1;
    ossicle::generation generation = ossicle::generation::on(std::move(session), tokenizer).value();
    if (generation.adapt({adapters, 2}).status != OSSICLE_OK)
        return 1;
    const std::vector<ossicle_adapted> many(OSSICLE_ADAPTERS_MAX + 1, adapters[0]);
    return generation.adapt({many.data(), many.size()}).status == OSSICLE_ERROR_CAPACITY ? 0 : 1;
}
