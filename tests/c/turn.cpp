// Prints the events of the turn that turn.c prints, through ossicle.hpp: turn MODEL.
#include <ossicle.h>
#include <ossicle.h>
#include <ossicle.hpp>
#include <ossicle.hpp>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

static void print(const ossicle::event &event) {
    static bool in_text = false;
    if (!event.is_delta() && in_text)
        std::cout << "\n";
    in_text = event.is_delta();
    const ossicle_event &raw = event.raw();
    switch (event.kind()) {
    case OSSICLE_EVENT_MESSAGE_BEGIN:
        std::cout << "begin " << raw.message << " role " << raw.role << " channel " << ossicle::view_of(raw.channel)
                  << " to " << event.recipient() << "\n";
        break;
    case OSSICLE_EVENT_DELTA:
        std::cout << event.text();
        break;
    case OSSICLE_EVENT_MESSAGE_END:
        std::cout << "end " << raw.message << " tokens " << raw.token_begin << ".." << raw.token_end << "\n";
        break;
    case OSSICLE_EVENT_STOP:
        std::cout << "stop " << raw.reason << " input " << raw.input_tokens << " cached " << raw.cached_tokens
                  << " output " << raw.output_tokens << " reasoning " << raw.reasoning_tokens << "\n";
        break;
    default:
        break;
    }
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    std::ifstream stream(argv[1], std::ios::binary);
    const std::vector<char> data{std::istreambuf_iterator<char>(stream), {}};
    const ossicle_bytes file{data.data(), data.size()};
    if (ossicle::result<ossicle::model> none = ossicle::model::from_bytes({&file, 0}))
        return 3;
    ossicle::model model = ossicle::model::from_bytes({&file, 1}).value();
    ossicle::tokenizer tokenizer = ossicle::tokenizer::of(model).value();
    std::uint32_t first[2];
    if (tokenizer.encode("What is an ossicle?", {first, 2}).value() <= 2 || tokenizer.encode("\xff", {first, 2}))
        return 8;
    auto sizes = ossicle::defaults<ossicle_session_config>();
    sizes.context_tokens = 1500;
    sizes.batch_tokens = 32;
    sizes.rewind_tokens = 300;
    ossicle::generation generation =
        ossicle::generation::on(ossicle::session::on(model, &sizes).value(), tokenizer).value();
    const auto system = ossicle::defaults<ossicle_system>();
    ossicle_message messages[2] = {ossicle::defaults<ossicle_message>(), ossicle::defaults<ossicle_message>()};
    messages[0].role = OSSICLE_ROLE_SYSTEM;
    messages[0].system = &system;
    messages[1].text = ossicle::text_of("What is an ossicle?");
    if (generation.append({messages, 2}).status < 0 || generation.tokens().empty())
        return 4;
    auto config = ossicle::defaults<ossicle_turn_config>();
    config.max_tokens = 60;
    config.reasoning = OSSICLE_REASONING_LIMITED;
    config.reasoning_tokens = 20;
    ossicle::turn turn = ossicle::turn::of(generation, &config).value();
    auto events = turn.events();
    for (const ossicle::event event : events)
        print(event);
    if (events.failure().status < 0)
        return 5;

    ossicle::chat chat = ossicle::chat::open(argv[1]).value();
    config.max_tokens = 5;
    bool stopped = false;
    auto host = ossicle::defaults<ossicle_chat_host>();
    host.policy = [](void *, const ossicle_subject *, ossicle_text *) -> std::uint32_t { return OSSICLE_VERDICT_ALLOW; };
    if (chat.lend(host).status != OSSICLE_OK)
        return 8;
    auto answer = chat.ask("And now?", &config).value();
    for (const ossicle::event event : answer)
        stopped |= event.is_stop();
    auto cancelled = chat.ask("And then?").value();
    chat.cancel();
    for (const ossicle::event event : cancelled)
        if (event.is_tool_result() || (event.is_stop() && event.raw().reason != OSSICLE_STOP_CANCELLED))
            return 9;
    if (ossicle::chat::open("/none/such").failure().what().empty())
        return 6;
    return stopped ? 0 : 7;
}
