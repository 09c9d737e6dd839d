/*
 * A game that talks: 60 frames a second, 2 milliseconds of each for the model.
 *
 *     frame_budget MODEL [QUESTION]
 *
 * ossicle_turn_step computes a layer at a time until its budget is spent. Between two steps nothing is owed: no thread works
 * behind the game's back, and a frame without time to spare does not step at all. A layer that was begun is finished, so a
 * slice can run over by as much as a layer takes; the worst of it is printed in the end.
 */
#define _POSIX_C_SOURCE 200809L
#include <ossicle.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FRAME_US = 1000000 / 60, SLICE_US = 2000 };

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void sleep_until(uint64_t when) {
    const uint64_t now = now_us();
    if (when > now) {
        const struct timespec rest = {0, (long)(when - now) * 1000};
        nanosleep(&rest, NULL);
    }
}

int main(int argc, char **argv) {
    ossicle_error error = {.struct_size = sizeof error, .text = "frame_budget MODEL [QUESTION]"};
    const ossicle_turn_config answer = {.struct_size = sizeof answer,
                                        .max_tokens = 60,
                                        .reasoning = OSSICLE_REASONING_LIMITED,
                                        .reasoning_tokens = 20};
    const char *question = argc > 2 ? argv[2] : "Where does the dragon sleep?";
    ossicle_chat *chat = NULL;
    if (argc < 2 || ossicle_chat_open(argv[1], NULL, &chat, &error) < 0
        || ossicle_chat_ask(chat, (ossicle_text){question, strlen(question)}, &answer, &error) < 0)
        return fprintf(stderr, "%s\n", error.text), 1;

    /* The chat has made these; the host's clock counts the budgets in microseconds. */
    ossicle_generation *generation;
    ossicle_turn *turn;
    ossicle_host host = {.struct_size = sizeof host};
    ossicle_chat_parts(chat, &generation, &turn, &host);

    int32_t status = OSSICLE_MORE;
    uint64_t frames = 0, worst = 0;
    for (uint64_t frame = now_us(); status == OSSICLE_MORE; frame += FRAME_US, frames++) {
        /* Move the world, draw it. What is left of the frame is for thinking: */
        const uint64_t begin = now_us();
        status = ossicle_turn_step(turn, &host, SLICE_US, &error);
        const uint64_t spent = now_us() - begin;
        worst = spent > SLICE_US + worst ? spent - SLICE_US : worst;

        /* Whatever was said in this slice. Events are the turn's: they are good until the next step. */
        const ossicle_event *event;
        while (ossicle_turn_event(turn, &event) == OSSICLE_MORE)
            if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
                fwrite(event->text.start, 1, event->text.size, stdout);
        fflush(stdout);
        sleep_until(frame + FRAME_US);
    }
    fprintf(stderr, "\n%s%llu frames, the worst slice %llu microseconds over its %d\n", status < 0 ? error.text : "",
            (unsigned long long)frames, (unsigned long long)worst, SLICE_US);
    return ossicle_chat_close(chat) < 0 || status < 0;
}
