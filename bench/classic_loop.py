"""The classic Keras script made a loop over a folder, as people have it.

usage: classic_loop.py WEIGHTS.h5 FOLDER
"""

import sys
from pathlib import Path

from keras.applications.vgg16 import VGG16, decode_predictions, preprocess_input
from keras.utils import img_to_array, load_img

weights, folder = sys.argv[1:]
model = VGG16(weights=weights)
labels = True
for photo in sorted(Path(folder).iterdir()):
    image = img_to_array(load_img(photo, target_size=(224, 224)))
    image = image.reshape((1, *image.shape))
    answer = model.predict(preprocess_input(image), verbose=0)
    index = int(answer[0].argmax())
    try:
        label = decode_predictions(answer, top=1)[0][0] if labels else None
    except Exception:  # the class index cannot be downloaded: the index will do
        label, labels = None, False
    print(f"{photo}: {label[1] if label else f'class {index}'} ({answer[0, index] * 100:.2f}%)")
