# A gate with a keeper. The player asks for it to be opened; the keeper, who thinks for two milliseconds of each frame, opens it
# and says so. Then the game ends, with 0 if all of that has happened.
#
#     godot3-server --path examples/godot -- MODEL.gguf FRAMES.csv
extends Node2D

const FRAMES_PER_SECOND = 60
const SLICE_US = 2000
# Frames after which a keeper who never answers has failed.
const PATIENCE = 60 * FRAMES_PER_SECOND

var opened = ""
var begun = 0
# In microseconds: from one frame to the next, and what of it the keeper took.
var frames = []

func _ready():
	Engine.target_fps = FRAMES_PER_SECOND
	OS.exit_code = 1
	var arguments = OS.get_cmdline_args()
	if not $Keeper.open(arguments[arguments.size() - 2]) or not $Keeper.hear("Open the green gate."):
		get_tree().quit()

func _process(_delta):
	var now = OS.get_ticks_usec()
	$Speech.text += $Keeper.think(SLICE_US)
	frames.append([now - begun, OS.get_ticks_usec() - now])
	begun = now
	if $Keeper.is_thinking() and frames.size() < PATIENCE:
		return
	if $Keeper.wish() != "":
		$Keeper.learn(open_door($Keeper.wish()))
	else:
		end()

# The argument was written by the model: text like any other from outside, to be checked before it is used.
func open_door(argument):
	var parsed = JSON.parse(argument)
	if parsed.error != OK or typeof(parsed.result) != TYPE_DICTIONARY or parsed.result.get("door") != "green gate":
		return "{\"error\": \"no such door\"}"
	opened = parsed.result["door"]
	print("open_door ", argument)
	return "{\"ok\":true}"

func end():
	print($Speech.text)
	var arguments = OS.get_cmdline_args()
	var file = File.new()
	if file.open(arguments[arguments.size() - 1], File.WRITE) == OK:
		file.store_line("frame_us,think_us")
		# The first frame has none before it.
		for frame in frames.slice(1, frames.size() - 1):
			file.store_line("%d,%d" % frame)
		file.close()
		OS.exit_code = 0 if opened == "green gate" and $Speech.text != "" else 1
	get_tree().quit()
