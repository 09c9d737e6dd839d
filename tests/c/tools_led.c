/* examples/c/tools.c with a sampler that leads the model, which is random, to call the tool: tools_led MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "led.h"

static int32_t ask_led(ossicle_chat *chat, ossicle_text text, const ossicle_turn_config *config, ossicle_error *failure) {
    ossicle_turn_config copy = *config;
    copy.sampler = &led;
    return ossicle_chat_ask(chat, text, &copy, failure);
}

#define ossicle_chat_ask ask_led
#define text_of text_of_example
#define error error_of_example
#define main tools
#include "../../examples/c/tools.c"
#undef main
#undef error
#undef text_of

int main(int argc, char **argv) {
    ossicle_checkpoint *checkpoint = NULL;
    const ossicle_tokenizer *tokenizer = NULL;
    CHECK(argc == 2 && ossicle_checkpoint_open(argv[1], &checkpoint, &error) == OSSICLE_OK);
    CHECK(ossicle_checkpoint_tokenizer(checkpoint, &tokenizer) == OSSICLE_OK);
    lead(tokenizer, "<|call|>", 90.0f);
    lead(tokenizer, " to=functions.temperature", 60.0f);
    lead(tokenizer, "commentary", 60.0f);
    lead(tokenizer, "<|message|>", 30.0f);
    CHECK(ossicle_checkpoint_close(checkpoint) == OSSICLE_OK);
    return tools(argc, argv);
}
