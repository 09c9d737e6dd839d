/* A sampler that leads a model, which is random, to write certain tokens. */
#ifndef LED_H
#define LED_H
#include "check.h"

static ossicle_logit_bias biases[128];
static ossicle_sampler_config led = {.struct_size = sizeof led, .logit_bias = biases};

/* Adds to the logits of the tokens of a text; they are kept by ascending token. */
static void lead(const ossicle_tokenizer *tokenizer, const char *text, float bias) {
    uint32_t tokens[64];
    size_t count = 0;
    CHECK(ossicle_tokenizer_encode(tokenizer, text_of(text), OSSICLE_SPECIALS_ALL, tokens, 64, &count) == OSSICLE_OK);
    for (size_t index = 0; index < count; index++) {
        size_t place = 0;
        while (place < led.logit_bias_count && biases[place].token < tokens[index])
            place++;
        if (place < led.logit_bias_count && biases[place].token == tokens[index])
            continue;
        memmove(biases + place + 1, biases + place, (led.logit_bias_count - place) * sizeof *biases);
        biases[place] = (ossicle_logit_bias){tokens[index], bias};
        led.logit_bias_count++;
    }
}

#endif
