/*
 * A saved game remembers what was said.
 *
 *     save_game MODEL FILE [QUESTION]
 *
 * Goes on with the conversation in FILE, if there is one, asks, and saves it again. Nothing that was said before is computed
 * anew: the file holds the tokens, and the keys and values of the model. It is refused if a bit of it changed, or if it comes
 * from another model.
 */
#include <ossicle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load(ossicle_generation *generation, const char *path, ossicle_error *error) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return 0;
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    void *bytes = malloc(size > 0 ? (size_t)size : 1);
    rewind(file);
    const size_t read = bytes == NULL ? 0 : fread(bytes, 1, (size_t)size, file);
    fclose(file);
    const int status = ossicle_generation_restore(generation, (ossicle_bytes){bytes, read}, error);
    free(bytes);
    return status;
}

static int save(const ossicle_generation *generation, const char *path) {
    size_t size = 0;
    ossicle_generation_save(generation, NULL, 0, &size);
    void *bytes = malloc(size);
    FILE *file = fopen(path, "wb");
    int failed = bytes == NULL || file == NULL || ossicle_generation_save(generation, bytes, size, &size) < 0;
    failed = failed || fwrite(bytes, 1, size, file) != size;
    if (file != NULL)
        failed |= fclose(file) != 0;
    free(bytes);
    return failed;
}

int main(int argc, char **argv) {
    ossicle_error error = {.struct_size = sizeof error, .text = "save_game MODEL FILE [QUESTION]"};
    const char *question = argc > 3 ? argv[3] : "Where does the dragon sleep?";
    ossicle_chat *chat = NULL;
    ossicle_generation *generation;
    ossicle_turn *turn;
    ossicle_host host = {.struct_size = sizeof host};
    uint32_t known = 0;
    if (argc < 3 || ossicle_chat_open(argv[1], NULL, &chat, &error) < 0
        || ossicle_chat_parts(chat, &generation, &turn, &host) < 0 || load(generation, argv[2], &error) < 0
        || ossicle_generation_position(generation, &known) < 0
        || ossicle_chat_ask(chat, (ossicle_text){question, strlen(question)}, NULL, &error) < 0)
        return fprintf(stderr, "%s\n", error.text), 1;

    int32_t status;
    const ossicle_event *event;
    while ((status = ossicle_chat_next(chat, &event, &error)) == OSSICLE_MORE) {
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            fwrite(event->text.start, 1, event->text.size, stdout);
        if (event->kind == OSSICLE_EVENT_STOP)
            fprintf(stderr, "%u tokens remembered, %u of %u not computed again\n", known, event->cached_tokens,
                    event->input_tokens);
    }
    if (status < 0 || save(generation, argv[2]))
        return fprintf(stderr, "%s\n", status < 0 ? error.text : "the game could not be saved"), 1;
    return ossicle_chat_close(chat) < 0;
}
