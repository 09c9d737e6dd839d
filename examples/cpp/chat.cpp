// A conversation in a terminal, in C++17.
//
//     chat MODEL
//
// A line is a question. Nothing here throws, and nothing has to be freed: an object goes with its variable.
#include <ossicle.hpp>

#include <cstdio>
#include <iostream>
#include <string>

int main(int argc, char **argv) {
    if (argc != 2)
        return std::fprintf(stderr, "chat MODEL\n"), 2;

    // What can fail returns a result: a value, or an error that says what went wrong.
    ossicle::result<ossicle::chat> opened = ossicle::chat::open(argv[1]);
    if (!opened) {
        std::cerr << opened.failure().what() << "\n";
        return 1;
    }
    ossicle::chat chat = std::move(opened).value();

    auto config = ossicle::defaults<ossicle_turn_config>();
    config.max_tokens = 200;
    std::string question;
    while (std::cout << "> " << std::flush && std::getline(std::cin, question)) {
        auto answer = chat.ask(question, &config);
        if (!answer) {
            // The context is full, or the text is not UTF-8. The conversation is as it was.
            std::cerr << answer.failure().what() << "\n";
            continue;
        }
        // An event is good until the next one. Reasoning comes too, and is not for the user's eyes.
        for (const ossicle::event event : answer.value()) {
            if (event.is_answer())
                std::cout << event.text() << std::flush;
            if (event.is_stop() && event.raw().reason == OSSICLE_STOP_MAX_TOKENS)
                std::cout << " ...";
        }
        std::cout << "\n";
        if (answer.value().failure().status < 0)
            std::cerr << answer.value().failure().what() << "\n";
    }
    return 0;
}
