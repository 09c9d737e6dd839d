// Schemas through ossicle.hpp: structured MODEL.
#include <ossicle.hpp>

#include <cctype>
#include <iostream>
#include <string>

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    ossicle::chat chat = ossicle::chat::open(argv[1]).value();
    ossicle::token_index index = ossicle::token_index::of(chat.tokenizer()).value();

    ossicle::result<ossicle::schema> refused = ossicle::schema::from(index, R"({"items": {"not": {"minimum": 1}}})");
    if (refused || refused.failure().status != OSSICLE_ERROR_SCHEMA || refused.failure().offset == 0)
        return 3;
    if (refused.failure().what().find("not: expected") == std::string_view::npos
        || refused.failure().what().find("#/items/not") == std::string_view::npos)
        return 4;
    ossicle::schema lenient =
        ossicle::schema::from(index, R"({"type": "array", "uniqueItems": true})", true).value();
    if (!lenient.warning(0) || lenient.warning(0)->what().find("uniqueItems") == std::string_view::npos
        || lenient.warning(1))
        return 5;

    ossicle::schema schema = ossicle::schema::from(index, R"({"enum": ["red", "green"]})").value();
    const ossicle_constraint constraints[] = {schema.constraint(), lenient.constraint("functions.f")};
    auto config = ossicle::defaults<ossicle_turn_config>();
    config.reasoning = OSSICLE_REASONING_LIMITED;
    config.reasoning_tokens = 5;
    config.constraints = constraints;
    config.constraint_count = 2;
    for (int turn = 0; turn < 3; turn++) {
        std::string text;
        std::uint32_t reason = 0;
        auto events = chat.ask("Which colour?", &config).value();
        for (const ossicle::event event : events) {
            if (event.is_answer())
                text += event.text();
            if (event.is_stop())
                reason = event.raw().reason;
        }
        if (events.failure().status < 0 || reason != OSSICLE_STOP_FINISHED || (text != "\"red\"" && text != "\"green\"")) {
            std::cerr << text << "\n";
            return 6;
        }
    }
    return 0;
}
